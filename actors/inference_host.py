"""An inference replica as a process: engines, their gRPC server, control and metrics."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from voxray.actors.contracts import Endpoint, ReplicaHeartbeat
from voxray.actors.control import ReportHub
from voxray.actors.grpc_server import InferenceServer
from voxray.actors.place import Place, quietly
from voxray.base.ids import ReplicaId
from voxray.base.lifecycle import LoopThread
from voxray.base.settings import ReplicaGroupSettings, Settings
from voxray.base.timing import SystemClock
from voxray.base.tls import load_certificates
from voxray.observability import logs, tracing
from voxray.observability.events import LoopLag
from voxray.observability.exporter import MetricsServer
from voxray.observability.loop_lag import LoopLagProbe
from voxray.observability.metrics import MetricsSink
from voxray.pipelines.engine_host import EngineHost
from voxray.pipelines.engines.phrase_cache import PhraseCache
from voxray.pipelines.engines.registry import EngineSpec

_HEARTBEAT_S = 1.0
# The gateway's own deadline for a replica's start is longer.
_LOAD_S = 110.0
_CLOSE_S = 10.0


@dataclass(frozen=True, kw_only=True)
class ReplicaConfig:
    """What a replica is made with.

    Attributes:
        group: engines and limits of its group.
        environment: variables that the engines get.
        device: the device it was given, for people: `cpu`, `cuda:0`, `logical-gpu:0`.
        token: shared secret of the app's gRPC ports; None trusts everybody.
    """

    replica_id: ReplicaId
    group: ReplicaGroupSettings
    settings: Settings
    place: Place
    device: str
    token: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


class InferenceHost:
    """Runs one replica in this process, on a loop of its own. Every method is thread-safe."""

    def __init__(self, config: ReplicaConfig) -> None:
        """Load the engines and serve them.

        Raises:
            ConfigError: the certificates are no good.
            EngineConfigError: an engine is unknown, or its model can't be loaded.
            PortTakenError: no port is free in the configured range.
            DeadlineError: the engines did not load in time.
        """
        self._config = config
        for name, value in config.environment.items():
            # What Ray has set (the device that is ours) stays.
            os.environ.setdefault(name, value)
        settings, group = config.settings, config.group
        logs.configure(settings.telemetry, role="replica", fields={"replica_id": config.replica_id})
        self._sink = MetricsSink()
        phrases = PhraseCache(int(group.phrase_cache_mb * 2**20), self._sink)
        self._tracing = tracing.setup(settings.telemetry, role="replica", app=settings.app)
        self._engines = EngineHost(
            [
                EngineSpec(name, group.engine_settings.get(name, {}), phrases)
                for name in group.engines
            ],
            max_streams=group.max_streams,
            latency_budget_ms=group.latency_budget_ms,
            max_batch=group.max_batch,
            sink=self._sink,
            clock=SystemClock(),
            tracing=self._tracing,
        )
        self._hub = ReportHub(_HEARTBEAT_S)
        self._server = InferenceServer(
            self._engines,
            replica_id=config.replica_id,
            token=config.token,
            certificates=load_certificates(settings.inference.tls),
            max_streams_per_host=settings.inference.max_streams_per_host,
            sink=self._sink,
            others=(self._hub.handler(config.token),),
        )
        self._probe = LoopLagProbe(
            lambda late_s: self._sink.emit(LoopLag(process="replica", seconds=late_s))
        )
        self._metrics = MetricsServer(
            config.place.address,
            settings.http.metrics_ports,
            self._sink.registry,
            token=config.token,
        )
        self._loop = LoopThread("inference")
        try:
            self._loop.call(self._start(), _LOAD_S)
        except BaseException:
            self.close()
            raise

    @property
    def endpoint(self) -> Endpoint:
        """Where the replica is reached."""
        return self._endpoint

    def drain(self) -> None:
        """Take no more streams; those that are open go on. Idempotent."""
        self._loop.loop.call_soon_threadsafe(self._engines.drain)

    def close(self) -> None:
        """End all streams and free the engines. Idempotent."""
        for step in (
            self._close_loop_side,
            self._metrics.close,
            self._loop.stop,
            self._tracing.shutdown,
        ):
            quietly(step)()

    def heartbeat(self, _sequence: int = 0) -> ReplicaHeartbeat:
        """Return a heartbeat; its being sent at all is what tells."""
        config = self._config
        return ReplicaHeartbeat(
            replica_id=config.replica_id,
            group=config.group.name,
            engines=tuple(info.name for info in self._engines.infos()),
            endpoint=self._endpoint,
            device=config.device,
            streams=self._engines.streams,
            max_streams=self._engines.max_streams,
            queue_s=self._engines.queue_s,
            draining=self._engines.draining,
        )

    async def _start(self) -> None:
        await self._engines.start()
        place = self._config.place
        metrics_port = self._metrics.start()
        port = await self._server.start(place.address, 0)
        self._probe.start()
        self._endpoint = place.endpoint(port=port, metrics_port=metrics_port)
        self._hub.attach(snapshot=lambda: (self.heartbeat(),), heartbeat=self.heartbeat)
        await self._hub.start()

    async def _stop(self) -> None:
        self._probe.stop()
        await self._hub.aclose()
        await self._server.aclose()
        await self._engines.aclose()

    def _close_loop_side(self) -> None:
        if self._loop.loop.is_running():
            self._loop.call(self._stop(), _CLOSE_S)
