"""Values of the API as a person reads them; one of another version may lack a field."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, TypeAlias

JsonObject: TypeAlias = Mapping[str, Any]


def objects(answer: JsonObject, key: str) -> tuple[JsonObject, ...]:
    """Return a list of objects of an answer; empty if it is not there."""
    found = answer.get(key)
    listed: Iterable[Any] = found if isinstance(found, list | tuple) else ()
    return tuple(each for each in listed if isinstance(each, dict))


def shown(value: object) -> str:
    """Return a value, or a dash for none."""
    return "-" if value is None or value == "" else str(value)


def number(value: object, digits: int) -> str:
    """Return a number with so many digits behind the point, or a dash."""
    return f"{value:.{digits}f}" if isinstance(value, int | float) else "-"


def seconds(value: object) -> str:
    """Return seconds with one digit behind the point, or a dash."""
    return f"{number(value, 1)} s" if isinstance(value, int | float) else "-"


def millis(value: object) -> str:
    """Return seconds as milliseconds, or a dash."""
    return f"{value * 1000:.0f} ms" if isinstance(value, int | float) else "-"


def megabytes(value: object) -> str:
    """Return bytes as MiB, or a dash."""
    return f"{value / 2**20:.0f} MiB" if isinstance(value, int | float) else "-"


def node(value: object) -> str:
    """Shorten a Ray node id: its first letters tell nodes apart."""
    return shown(value)[:8]


def moment(value: object) -> str:
    """Return Unix seconds as the local time of day, or a dash."""
    if not isinstance(value, int | float):
        return "-"
    return datetime.fromtimestamp(value).astimezone().strftime("%H:%M:%S.%f")[:-3]
