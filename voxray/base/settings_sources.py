"""Where settings come from: the file, the environment, the command line; who said what.

Nothing here knows the settings themselves: values are gathered as they are, and a fault that is
found in them later is traced to its source.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from voxray.base.errors import ConfigError

SETTINGS_FILE = "voxray.yaml"
_ENVIRONMENT_PREFIX = "VOXRAY_"
_SECTION_SEPARATOR = "__"
COMMON_VARIABLES: Mapping[str, tuple[str, ...]] = {
    "LIVEKIT_URL": ("livekit", "url"),
    "LIVEKIT_API_KEY": ("livekit", "api_key"),
    "LIVEKIT_API_SECRET": ("livekit", "api_secret"),
    "OTEL_EXPORTER_OTLP_ENDPOINT": ("telemetry", "otlp_endpoint"),
}
"""Variables that other tools define and that mean one of our fields."""
# VOXRAY_ variables that are not settings of an app.
_NOT_SETTINGS = frozenset({"VOXRAY_API", "VOXRAY_HOME", "VOXRAY_LIVEKIT_SERVER"})


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """Values of all sources, merged, and where each came from.

    Attributes:
        values: nested as the settings are; secrets in clear, so never printed.
        flags: the part that the command line gave.
        origins: variable by the place that it set.
        path: the settings file.
    """

    values: Mapping[str, Any] = field(repr=False)
    flags: Mapping[str, Any] = field(repr=False)
    origins: Mapping[tuple[str, ...], str]
    path: Path

    def explain(self, error: ValidationError) -> str:
        """Say for each fault its source, its place and what is wrong, never the value."""
        lines = []
        for fault in error.errors(include_url=False, include_input=False, include_context=False):
            place = tuple(str(part) for part in fault["loc"])
            what = "unknown setting" if fault["type"] == "extra_forbidden" else fault["msg"]
            # Pydantic's words before what a check of ours says.
            what = what.removeprefix("Value error, ")
            lines.append(f"{self._source(place)}: {'.'.join(place)}: {what}")
        return "; ".join(lines)

    def _source(self, place: tuple[str, ...]) -> str:
        if _contains(self.flags, place):
            return "command line"
        parts = (place[:length] for length in range(len(place), 0, -1))
        # A fault of a whole section may be in any of its fields.
        inside = [name for part, name in self.origins.items() if part[: len(place)] == place]
        return next(
            (self.origins[part] for part in parts if part in self.origins),
            ", ".join(inside) or str(self.path),
        )


def gather(
    environment: Mapping[str, str],
    *,
    flags: Mapping[str, Any] | None = None,
    file: Path | None = None,
) -> Gathered:
    """Read and merge all sources: flags over environment over file.

    Args:
        environment: the process environment.
        flags: nested values from the command line; None values are left out.
        file: the settings file; None takes `voxray.yaml` of the working folder if it is there.

    Raises:
        ConfigError: the file can't be read, or variables contradict each other.
    """
    path = file or Path(SETTINGS_FILE)
    from_file = _read_file(path) if file is not None or path.is_file() else {}
    from_environment, origins = _read_environment(environment)
    from_flags = _without_none(flags or {})
    return Gathered(
        values=_merge(_merge(from_file, from_environment), from_flags),
        flags=from_flags,
        origins=origins,
        path=path,
    )


def _read_file(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f":{mark.line + 1}:{mark.column + 1}" if mark is not None else ""
        raise ConfigError(f"{path}{place}: is not valid YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not valid YAML: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: must hold a mapping of settings, not {type(content).__name__}")
    return content


def _read_environment(
    environment: Mapping[str, str],
) -> tuple[dict[str, Any], dict[tuple[str, ...], str]]:
    values: dict[str, Any] = {}
    origins: dict[tuple[str, ...], str] = {}
    for variable, text in sorted(environment.items()):
        # An empty variable counts as unset, as everywhere in LiveKit's tools.
        if not text or variable in _NOT_SETTINGS:
            continue
        if variable in COMMON_VARIABLES:
            place: tuple[str, ...] = COMMON_VARIABLES[variable]
            value: Any = text
        elif variable.startswith(_ENVIRONMENT_PREFIX):
            name = variable.removeprefix(_ENVIRONMENT_PREFIX).lower()
            place = tuple(name.split(_SECTION_SEPARATOR))
            value = _parse_variable(text)
        else:
            continue
        origins[place] = variable
        part = values
        for key in place[:-1]:
            nested = part.setdefault(key, {})
            if not isinstance(nested, dict):
                raise ConfigError(f"{variable}: {key} is set as a single value elsewhere")
            part = nested
        part[place[-1]] = value
    return values, origins


def _parse_variable(text: str) -> Any:
    # Lists and objects are given as JSON; everything else is left to the field's type.
    if text[0] not in "[{":
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            if nested := _without_none(value):
                kept[key] = nested
        elif value is not None:
            kept[key] = value
    return kept


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        lower = merged.get(key)
        if isinstance(value, Mapping) and isinstance(lower, Mapping):
            merged[key] = _merge(lower, value)
        else:
            merged[key] = value
    return merged


def _contains(values: Mapping[str, Any], place: tuple[str, ...]) -> bool:
    part: Any = values
    for key in place:
        if not isinstance(part, Mapping) or key not in part:
            return False
        part = part[key]
    return True
