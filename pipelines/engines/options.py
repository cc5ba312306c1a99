"""Reads the options that a program gives an engine into a dataclass, and refuses what is wrong."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar, get_args, get_type_hints

from voxray.base.errors import EngineConfigError

T = TypeVar("T")


@dataclass(frozen=True)
class NoOptions:
    """What a stream may choose of an engine that takes no options.

    Of the engines that only tell probabilities: thresholds belong to who reads them.
    """


def read_options(engine: str, cls: type[T], options: Mapping[str, Any]) -> T:
    """Return `cls(**options)`; its fields may be bool, int, float, str, or one of them and None.

    Raises:
        EngineConfigError: an option is unknown, has the wrong type, or `cls` refuses its value
            with a ValueError.
    """
    hints = get_type_hints(cls)
    known = [field.name for field in fields(cls)]  # type: ignore[arg-type]  # T is a dataclass.
    if unknown := sorted(set(options) - set(known)):
        takes = f"it takes {', '.join(known)}" if known else "it takes none"
        raise EngineConfigError(f"{engine}: unknown option: {', '.join(unknown)}; {takes}")
    values = {name: _convert(engine, name, hints[name], value) for name, value in options.items()}
    try:
        return cls(**values)
    except ValueError as error:
        raise EngineConfigError(f"{engine}: {error}") from error


def _convert(engine: str, name: str, hint: Any, value: Any) -> Any:
    allowed = get_args(hint) or (hint,)
    # bool is an int to Python, but True is no number of seconds.
    if type(value) in allowed:
        if isinstance(value, float) and not math.isfinite(value):
            raise EngineConfigError(f"{engine}: option {name} must be a finite number")
        return value
    if float in allowed and type(value) is int:
        return float(value)
    # JSON has one kind of number.
    if int in allowed and isinstance(value, float) and value.is_integer():
        return int(value)
    wanted = " or ".join("null" if kind is type(None) else kind.__name__ for kind in allowed)
    raise EngineConfigError(f"{engine}: option {name} must be {wanted}, not {type(value).__name__}")
