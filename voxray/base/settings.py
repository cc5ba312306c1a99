"""Settings: flags over environment over `voxray.yaml` over defaults, checked as a whole.

This is the only module that reads the environment, and only when `load_settings` is called.
Every component gets its own frozen part, handed down whole.

Variables: `LIVEKIT_URL`, `LIVEKIT_API_KEY`, `LIVEKIT_API_SECRET`, `OTEL_EXPORTER_OTLP_ENDPOINT`,
and `VOXRAY_<SECTION>__<FIELD>` for every field below, e.g. `VOXRAY_HOSTS__SESSIONS_PER_HOST=8`
(top-level fields: `VOXRAY_APP`).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlparse

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from voxray.base.errors import ConfigError

SETTINGS_FILE = "voxray.yaml"
_ENVIRONMENT_PREFIX = "VOXRAY_"
_SECTION_SEPARATOR = "__"
# Variables that other tools define and that mean one of our fields.
_COMMON_VARIABLES = {
    "LIVEKIT_URL": ("livekit", "url"),
    "LIVEKIT_API_KEY": ("livekit", "api_key"),
    "LIVEKIT_API_SECRET": ("livekit", "api_secret"),
    "OTEL_EXPORTER_OTLP_ENDPOINT": ("telemetry", "otlp_endpoint"),
}
# VOXRAY_ variables that are not settings of an app.
_NOT_SETTINGS = frozenset({"VOXRAY_API", "VOXRAY_HOME", "VOXRAY_LIVEKIT_SERVER"})

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LiveKitSettings(_Part):
    """How to reach LiveKit.

    Attributes:
        url: `ws://`, `wss://`, `http://` or `https://` address of the server.
        api_key: the key that the worker signs its tokens with.
        api_secret: the secret of the key; never printed.
        max_retry: failed connection attempts in a row before giving up (livekit-agents: 16).
    """

    url: str = ""
    api_key: str = ""
    api_secret: SecretStr = SecretStr("")
    max_retry: Annotated[int, Field(ge=0)] = 16

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        if not value:
            return value
        parsed = urlparse(value)
        if parsed.scheme not in {"ws", "wss", "http", "https"} or not parsed.netloc:
            raise ValueError("must look like ws://host:7880 or wss://project.livekit.cloud")
        return value

    def require_complete(self) -> None:
        """Check that all three values are there.

        Raises:
            ConfigError: names each missing value and how to give it.
        """
        missing = [
            f"{variable} (or {flag})"
            for value, variable, flag in (
                (self.url, "LIVEKIT_URL", "--url"),
                (self.api_key, "LIVEKIT_API_KEY", "--api-key"),
                (self.api_secret.get_secret_value(), "LIVEKIT_API_SECRET", "--api-secret"),
            )
            if not value
        ]
        if missing:
            raise ConfigError(
                f"not set: {', '.join(missing)}; give the address and keys of your LiveKit server"
            )


class HostSettings(_Part):
    """Session hosts.

    Attributes:
        sessions_per_host: calls that one host carries.
        min_hosts: hosts that are started with the app.
        max_hosts: hosts at most; offers beyond their slots are refused.
        idle_hosts: started hosts without a call that are kept ready.
        placement: `pack` fills a host before the next, `spread` keeps hosts evenly loaded.
        cpus: CPU share that each host asks Ray for.
        heartbeat_s: pause between heartbeats of a host.
        lease_s: silence after which a host counts as lost.
        start_timeout_s: longest start of a host, imports and `setup_fnc` included.
        resume_budget: resumes of one job within `resume_window_s` before it is failed.
        resume_window_s: the window of the resume budget.
    """

    sessions_per_host: Annotated[int, Field(ge=1, le=1000)] = 12
    min_hosts: Annotated[int, Field(ge=1)] = 1
    max_hosts: Annotated[int, Field(ge=1)] = 4
    idle_hosts: Annotated[int, Field(ge=0)] = 1
    placement: Literal["pack", "spread"] = "pack"
    cpus: Annotated[float, Field(gt=0)] = 0.5
    heartbeat_s: Seconds = 0.25
    lease_s: Seconds = 2.0
    start_timeout_s: Seconds = 60.0
    resume_budget: Annotated[int, Field(ge=0)] = 3
    resume_window_s: Seconds = 60.0


class ReplicaGroupSettings(_Part):
    """One group of equal inference replicas.

    Attributes:
        name: the group's name; replicas are called `<name>-<number>`.
        engines: engine names that each replica hosts.
        replicas: how many replicas run.
        gpus: GPU share that each replica asks Ray for (0.5 is half a GPU).
        cpus: CPU share that each replica asks Ray for.
        max_streams: streams that one replica accepts.
        latency_budget_ms: longest time that the batcher holds a request back.
        max_batch: requests in one batch at most.
    """

    name: Name
    engines: Annotated[tuple[str, ...], Field(min_length=1)]
    replicas: Annotated[int, Field(ge=1)] = 1
    gpus: Annotated[float, Field(ge=0)] = 0.25
    cpus: Annotated[float, Field(ge=0)] = 0.5
    max_streams: Annotated[int, Field(ge=1)] = 512
    latency_budget_ms: Annotated[float, Field(ge=0, le=1000)] = 8.0
    max_batch: Annotated[int, Field(ge=1, le=1024)] = 64


class InferenceSettings(_Part):
    """Shared inference.

    Attributes:
        groups: the replica groups; an engine may be in several.
        coalesce_ms: how long a host gathers frames of its calls into one message.
    """

    groups: tuple[ReplicaGroupSettings, ...] = (
        ReplicaGroupSettings(name="speech", engines=("silero", "pocketsphinx", "espeak")),
    )
    coalesce_ms: Annotated[float, Field(ge=0, le=100)] = 10.0

    @field_validator("groups")
    @classmethod
    def _names_differ(
        cls, groups: tuple[ReplicaGroupSettings, ...]
    ) -> tuple[ReplicaGroupSettings, ...]:
        names = [group.name for group in groups]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"group names must differ, found twice: {', '.join(sorted(twice))}")
        return groups


class HttpSettings(_Part):
    """The dispatcher's HTTP API and the metrics ports.

    Attributes:
        host: address to listen on.
        port: port of health, status and metrics; 0 takes a free one.
        metrics_ports: `first-last` range for the metrics pages of hosts and replicas, or empty
            for any free port.
    """

    host: str = "127.0.0.1"
    port: Port = 8081
    metrics_ports: Annotated[str, Field(pattern=r"^(\d{1,5}-\d{1,5})?$")] = ""


class TelemetrySettings(_Part):
    """Logs and traces.

    Attributes:
        log_level: least severe level that is printed.
        log_format: `colored` for people, `json` for machines.
        otlp_endpoint: where spans go (OTLP); none are recorded while it is empty.
        otlp_protocol: the transport of OTLP.
    """

    log_level: Literal["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "CRITICAL"] = "INFO"
    log_format: Literal["colored", "json"] = "colored"
    otlp_endpoint: str = ""
    otlp_protocol: Literal["grpc", "http/protobuf"] = "grpc"


class RaySettings(_Part):
    """The Ray cluster.

    Attributes:
        address: address of a running cluster; empty starts Ray on this machine.
        dashboard: whether a local Ray serves its dashboard.
        logical_gpus: GPUs that a local Ray without GPUs pretends to have.
    """

    address: str = ""
    dashboard: bool = True
    logical_gpus: Annotated[int, Field(ge=0)] = 1


class Settings(_Part):
    """Everything one app is run with.

    Attributes:
        app: the app's name and Ray namespace.
        drain_timeout_s: how long a drain waits for calls; none takes the program's own.
    """

    app: Name = "voxray"
    drain_timeout_s: Seconds | None = None
    livekit: LiveKitSettings = LiveKitSettings()
    hosts: HostSettings = HostSettings()
    inference: InferenceSettings = InferenceSettings()
    http: HttpSettings = HttpSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    ray: RaySettings = RaySettings()


def load_settings(
    environment: Mapping[str, str],
    *,
    flags: Mapping[str, Any] | None = None,
    file: Path | None = None,
) -> Settings:
    """Merge and check all sources of settings.

    Args:
        environment: the process environment.
        flags: nested values from the command line; None values are left out.
        file: the settings file; None takes `voxray.yaml` of the working folder if it is there.

    Raises:
        ConfigError: names the source, the place and the fault of each bad value.
    """
    path = file or Path(SETTINGS_FILE)
    from_file = _read_file(path) if file is not None or path.is_file() else {}
    from_environment, origins = _read_environment(environment)
    from_flags = _without_none(flags or {})
    merged = _merge(_merge(from_file, from_environment), from_flags)
    try:
        return Settings.model_validate(merged)
    except ValidationError as error:
        raise ConfigError(_explain(error, from_flags, origins, path)) from error


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
        if variable in _COMMON_VARIABLES:
            place: tuple[str, ...] = _COMMON_VARIABLES[variable]
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


def _explain(
    error: ValidationError,
    flags: Mapping[str, Any],
    origins: Mapping[tuple[str, ...], str],
    path: Path,
) -> str:
    lines = []
    for fault in error.errors(include_url=False, include_input=False, include_context=False):
        place = tuple(str(part) for part in fault["loc"])
        if _contains(flags, place):
            source = "command line"
        else:
            known = (origins[place[:n]] for n in range(len(place), 0, -1) if place[:n] in origins)
            source = next(known, str(path))
        what = "unknown setting" if fault["type"] == "extra_forbidden" else fault["msg"]
        lines.append(f"{source}: {'.'.join(place)}: {what}")
    return "; ".join(lines)


def _contains(values: Mapping[str, Any], place: tuple[str, ...]) -> bool:
    part: Any = values
    for key in place:
        if not isinstance(part, Mapping) or key not in part:
            return False
        part = part[key]
    return True
