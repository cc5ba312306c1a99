"""Settings: flags over environment over `voxray.yaml` over defaults, checked as a whole.

The environment is read only when `load_settings` is called, from what it is given.
Every component gets its own frozen part, handed down whole.

Variables: `LIVEKIT_URL`, `LIVEKIT_API_KEY`, `LIVEKIT_API_SECRET`, `OTEL_EXPORTER_OTLP_ENDPOINT`,
and `VOXRAY_<SECTION>__<FIELD>` for every field below, e.g. `VOXRAY_HOSTS__SESSIONS_PER_HOST=8`
(top-level fields: `VOXRAY_APP`).
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlparse

from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from voxray.base.errors import ConfigError
from voxray.base.inference_settings import InferenceSettings as InferenceSettings  # noqa: PLC0414
from voxray.base.inference_settings import ReplicaGroupSettings as ReplicaGroupSettings  # noqa: PLC0414
from voxray.base.reconciler_settings import ReconcilerSettings as ReconcilerSettings  # noqa: PLC0414
from voxray.base.settings_checks import check_hosts, check_port_range
from voxray.base.settings_part import Name, Part
from voxray.base.settings_sources import gather

Port = Annotated[int, Field(ge=0, le=65535)]
PortRange = Annotated[str, Field(pattern=r"^(\d{1,5}-\d{1,5})?$"), AfterValidator(check_port_range)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class LiveKitSettings(Part):
    """How to reach LiveKit.

    Attributes:
        url: `ws://`, `wss://`, `http://` or `https://` address of the server.
        api_key: the key that the worker signs its tokens with.
        api_secret: the secret of the key; never printed.
        max_retry: failed connection attempts in a row before giving up (livekit-agents: 16).
        registered: whether the app registers as a worker; without it LiveKit sends no jobs, and
            only simulated ones run (`voxray connect`).
    """

    url: str = ""
    api_key: str = ""
    api_secret: SecretStr = SecretStr("")
    max_retry: Annotated[int, Field(ge=0)] = 16
    registered: bool = True

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        if not value:
            return value
        parsed = urlparse(value)
        if parsed.scheme not in {"ws", "wss", "http", "https"} or not parsed.netloc:
            raise ValueError("must look like ws://host:7880 or wss://project.livekit.cloud")
        return value

    @property
    def complete(self) -> bool:
        """Whether address, key and secret are all there."""
        return bool(self.url and self.api_key and self.api_secret.get_secret_value())

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


class HostSettings(Part):
    """Session hosts.

    Attributes:
        isolation: `shared` runs many calls in one process, `process` each call in one of its own
            that ends with it.
        sessions_per_host: calls that one host carries; one with `isolation: process`.
        min_hosts: hosts that are started with the app.
        max_hosts: hosts at most; offers beyond their slots are refused.
        idle_hosts: started hosts without a call that are kept ready.
        placement: `pack` fills a host before the next, `spread` keeps hosts evenly loaded.
        cpus: CPU share that each host asks Ray for.
        heartbeat_s: pause between heartbeats of a host.
        lease_s: silence after which a host counts as lost.
        start_timeout_s: longest start of a host up to the end of the program's import; its
            `setup_fnc` has the program's own `initialize_process_timeout` after that.
        resume_budget: resumes of one job within `resume_window_s` before it is failed.
        resume_window_s: the window of the resume budget.
        load_limit: whether the program's own load may make a host full; `dev` and simulations lift
            it, as the stock worker does.
        tenant_key: the key under which a job's metadata, a JSON object, names its tenant; empty
            when there are no tenants.
        tenant_limit: calls that a tenant may have at once; none sets no limit.
        tenant_limits: other limits for single tenants, by their names.
        block_report_s: a call that blocks the event loop of its host for so long is reported
            with its stack; 0 reports none.
    """

    isolation: Literal["shared", "process"] = "shared"
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
    block_report_s: Annotated[float, Field(ge=0, le=60)] = 0.5
    load_limit: bool = True
    tenant_key: str = ""
    tenant_limit: Annotated[int, Field(ge=0)] | None = None
    tenant_limits: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        check_hosts(self)
        return self

    @property
    def slots_per_host(self) -> int:
        """Calls that one host carries, by its isolation."""
        return 1 if self.isolation == "process" else self.sessions_per_host


class HttpSettings(Part):
    """The dispatcher's HTTP API and the metrics ports.

    Attributes:
        host: address to listen on.
        port: port of health, status and metrics; 0 takes a free one.
        metrics_ports: `first-last` range for the metrics pages of hosts and replicas, or empty
            for any free port.
    """

    host: str = "127.0.0.1"
    port: Port = 8081
    metrics_ports: PortRange = ""


class TelemetrySettings(Part):
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


class RaySettings(Part):
    """The Ray cluster.

    Attributes:
        address: address of a running cluster; empty starts Ray on this machine.
        dashboard: whether a local Ray serves its dashboard.
        logical_gpus: GPUs that a local Ray without GPUs pretends to have.
    """

    address: str = ""
    dashboard: bool = True
    logical_gpus: Annotated[int, Field(ge=0)] = 1


class Settings(Part):
    """Everything one app is run with.

    Attributes:
        app: the app's name and Ray namespace.
        drain_timeout_s: how long a drain waits for calls; none takes the program's own.
        dispatchers: dispatchers of the app, each with a registration at LiveKit and hosts of its
            own: `min_hosts`, `max_hosts` and `idle_hosts` hold for each.
    """

    app: Name = "voxray"
    drain_timeout_s: Seconds | None = None
    dispatchers: Annotated[int, Field(ge=1, le=16)] = 1
    livekit: LiveKitSettings = LiveKitSettings()
    hosts: HostSettings = HostSettings()
    reconciler: ReconcilerSettings = ReconcilerSettings()
    inference: InferenceSettings = InferenceSettings()
    http: HttpSettings = HttpSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    ray: RaySettings = RaySettings()

    def for_actors(self) -> "Settings":
        """Return what hosts and replicas go by, the rest at its defaults.

        What runs with equal ones may be taken over by a dispatcher of other settings.
        """
        fields = {"isolation", "sessions_per_host", "heartbeat_s", "block_report_s"}
        # Copied, not made: a part of what fits together need not fit by itself.
        hosts = HostSettings().model_copy(update=self.hosts.model_dump(include=fields))
        theirs = {
            name: getattr(self, name) for name in ("app", "livekit", "inference", "telemetry")
        }
        http = HttpSettings(metrics_ports=self.http.metrics_ports)
        return Settings().model_copy(update={**theirs, "hosts": hosts, "http": http})


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
    gathered = gather(environment, flags=flags, file=file)
    try:
        return Settings.model_validate(gathered.values)
    except ValidationError as error:
        raise ConfigError(gathered.explain(error)) from error


def configured_engine(name: str) -> Mapping[str, Any]:
    """Return an engine's own settings, for programs that run outside of voxray.

    The first replica group that has some counts. Raises what `load_settings` raises.
    """
    groups = load_settings(os.environ).inference.groups
    return next((each.engine_settings[name] for each in groups if name in each.engine_settings), {})
