"""Brings an app up on a Ray cluster and takes it down again.

`start`, `demo`, the tests and the benchmarks all use it, so that they run the same thing.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from pydantic import SecretStr, ValidationError

from voxray.actors.contracts import ProgramInfo
from voxray.base.app_token import app_token
from voxray.base.errors import ConfigError, PortTakenError, VoxrayError
from voxray.base.sealed import Sealed
from voxray.base.settings import LiveKitSettings, Settings
from voxray.base.tls import load_certificates
from voxray.cli import cluster as clusters
from voxray.cli import leftovers
from voxray.cli.dispatchers import DISPATCHER_CPUS, AppParts, Dispatchers, create_missing, look
from voxray.cli.probe import ProbedProgram, probe_program
from voxray.cli.takeover import Takeover, decide
from voxray.pipelines.engines.registry import check_names

# Variables that reach the program's processes on a cluster that this process did not start. On a
# local one they inherit the whole environment.
_FORWARDED_PREFIXES = ("LIVEKIT_", "OTEL_", "TURN_DETECTION_", "VOXRAY_")
_LAST_PORT = 65535


class Deployment:
    """A running app.

    Attributes:
        app: its name and Ray namespace.
        api_url: the first dispatcher's HTTP API; it answers for the whole app.
        api_urls: the HTTP APIs of all dispatchers, in their order.
        api_token: what the APIs ask for beyond loopback.
        metrics_url: the first dispatcher's metrics page; `/sd` beside it lists all the others.
        dashboard_url: Ray's dashboard, or None.
        dashboard_token: file with the token that it asks for, or None.
        program: what was read of the program.
        attached: whether the app ran already, and goes on as it was.
        sources: the files that it imported, without what is installed.
        detached: whether the app goes on when the context ends.
    """

    def __init__(
        self,
        parts: AppParts,
        cluster: clusters.Cluster,
        dispatchers: Dispatchers,
        api_urls: Sequence[str],
        *,
        attached: bool,
    ) -> None:
        self.app = parts.settings.app
        self.api_urls = tuple(api_urls)
        self.api_url = self.api_urls[0]
        self.api_token = parts.token.open()
        self.metrics_url = f"{self.api_url}/metrics"
        self.dashboard_url = cluster.dashboard_url
        self.dashboard_token = cluster.dashboard_token
        self.program = parts.program
        self.attached = attached
        self.sources: frozenset[Path] = frozenset()
        self.detached = False
        self._dispatchers = dispatchers

    def detach(self) -> None:
        """Leave the app running on its cluster when the context ends."""
        self.detached = True

    async def phase(self) -> str:
        """Return the app's phase: starting, running, draining, drained or failed."""
        return await self._dispatchers.phase()

    async def change_program(self, program: ProgramInfo, *, relaunch: bool) -> None:
        """Give new jobs to another version; with `relaunch`, live calls begin anew with it."""
        await self._dispatchers.change_program(program, relaunch=relaunch)
        self.program = program

    async def begin_drain(self, deadline_s: float | None = None) -> None:
        """Refuse new jobs; the running ones end by themselves or at the deadline."""
        await self._dispatchers.drain(deadline_s)

    async def stop(self) -> None:
        """End all calls, hosts and replicas now, and wait until they are gone."""
        await self._dispatchers.shutdown()
        await self.wait_over()

    async def wait_over(self) -> VoxrayError | None:
        """Wait until the app has drained or failed; return why it failed."""
        return await self._dispatchers.wait_over()


@asynccontextmanager
async def deploy(
    program_path: Path,
    settings: Settings,
    *,
    log_to_driver: bool = False,
    on_progress: Callable[[str], None] | None = None,
    on_joined: Callable[[], None] | None = None,
    replace: bool = False,
) -> AsyncIterator[Deployment]:
    """Run a program as an app until the context ends.

    Enter it on the main thread: Ray sets its signal handlers there.

    Args:
        program_path: the livekit-agents program.
        settings: of the app; what its `livekit` part lacks is taken from the program.
        log_to_driver: print the actors' output here.
        on_progress: told in a few words what is going on.
        replace: take the place of an app of this name that runs with another program or settings.
        on_joined: called once Ray has set its own signal handlers, which this one may replace.

    Raises:
        ConfigError: settings, program, keys or a port are wrong.
        ConnectionFailedError: Ray or LiveKit can't be reached.
        ActorStartError: no session host or no inference replica could be started.
    """
    for group in settings.inference.groups:
        check_names(group.engines)
    ports = _ports(settings)
    tell = on_progress or (lambda _: None)
    # Each process reads its own; what is wrong with them is said before any of them starts.
    load_certificates(settings.inference.tls)
    tell("loading the program and starting Ray")
    probe = asyncio.create_task(
        probe_program(program_path, program_environment(settings)), name="probe-program"
    )
    try:
        if not settings.livekit.complete:
            # Nobody has to wait for Ray to hear that a key is missing.
            settings = _with_connection(settings, await probe)
        # The event loop stands still meanwhile; the probe runs in a process of its own.
        if not settings.ray.address:
            leftovers.clear(settings.app, tell)
        cluster = clusters.join(
            settings.ray,
            namespace=settings.app,
            log_to_driver=log_to_driver,
            bare_logs=settings.telemetry.log_format == "json",
            cpus=_cpus(settings),
        )
        if on_joined is not None:
            on_joined()
    except BaseException:
        probe.cancel()
        await asyncio.wait([probe])
        raise
    try:
        probed = await probe
        environment = program_environment(settings)
        if not cluster.local:
            environment = {
                name: value
                for name, value in environment.items()
                if name.startswith(_FORWARDED_PREFIXES)
            }
        parts = AppParts(
            settings=settings,
            program=probed.info,
            environment=Sealed(environment),
            token=Sealed(app_token(settings.app, settings.livekit.api_secret.get_secret_value())),
        )
        tell("starting the dispatcher, a session host and inference")
        dispatchers, attached = await _bring_up(parts, ports, tell, replace=replace)
        deployment: Deployment | None = None
        try:
            urls = await dispatchers.wait_started(tell)
            deployment = Deployment(parts, cluster, dispatchers, urls, attached=attached)
            deployment.sources = probed.sources
            yield deployment
        finally:
            # What ran before goes on when it could not be attached to.
            if not (attached if deployment is None else deployment.detached):
                await dispatchers.end()
    finally:
        cluster.close()


def _cpus(settings: Settings) -> float:
    """Return the CPU shares that the app asks Ray for at most."""
    each = DISPATCHER_CPUS + settings.hosts.max_hosts * settings.hosts.cpus
    return settings.dispatchers * each + sum(
        group.most * group.cpus for group in settings.inference.groups
    )


def program_environment(settings: Settings) -> dict[str, str]:
    """Return this process's environment with LiveKit's address and keys as the settings say."""
    livekit = settings.livekit
    keys = {
        "LIVEKIT_URL": livekit.url,
        "LIVEKIT_API_KEY": livekit.api_key,
        "LIVEKIT_API_SECRET": livekit.api_secret.get_secret_value(),
    }
    # What is not known is left unset: the program may load it from a file of its own.
    return {**os.environ, **{name: value for name, value in keys.items() if value}}


def _with_connection(settings: Settings, probed: ProbedProgram) -> Settings:
    """Fill in what only the program knows: an address or keys in its code or its `.env` file."""
    livekit = settings.livekit
    try:
        url = livekit.url or LiveKitSettings(url=probed.url).url
    except ValidationError as error:
        raise ConfigError(
            f"{probed.info.path}: the LiveKit address of the program must look like "
            "ws://host:7880 or wss://project.livekit.cloud"
        ) from error
    filled = livekit.model_copy(
        update={
            "url": url,
            "api_key": livekit.api_key or probed.api_key,
            "api_secret": livekit.api_secret or SecretStr(probed.api_secret),
        }
    )
    filled.require_complete()
    return settings.model_copy(update={"livekit": filled})


def _ports(settings: Settings) -> tuple[int, ...]:
    """Choose the ports of the APIs, so that a restarted dispatcher keeps its own, and try them.

    The dispatchers' ports follow each other. On a cluster it is not known where they will be.

    Raises:
        PortTakenError: before anything was started.
    """
    first, host = settings.http.port, settings.http.host
    ports = tuple(first + index if first else 0 for index in range(settings.dispatchers))
    if ports[-1] > _LAST_PORT:
        raise ConfigError(f"http.port {first} leaves no room for {len(ports)} dispatchers' ports")
    if settings.ray.address:
        return ports
    probes = [socket.socket() for _ in ports]
    try:
        return tuple(
            _try_port(probe, host, port) for probe, port in zip(probes, ports, strict=True)
        )
    finally:
        for probe in probes:
            probe.close()


def _try_port(probe: socket.socket, host: str, port: int) -> int:
    # As the server will: a port whose last connections are still closing is free.
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind((host, port))
    except OSError as error:
        raise PortTakenError(
            f"port {port} on {host} can't be listened on: "
            f"{error.strerror}; set http.port (0 takes a free one)"
        ) from error
    return int(probe.getsockname()[1])


async def _bring_up(
    parts: AppParts,
    ports: Sequence[int],
    tell: Callable[[str], None],
    *,
    replace: bool,
) -> tuple[Dispatchers, bool]:
    """Start the app's dispatchers, or take over what runs; return them and whether they ran.

    Raises:
        ConfigError: the app runs with another program or other settings.
    """
    settings = parts.settings
    old, running = await look()
    takeover = decide(running, settings, parts.program, replace=replace)
    if running and takeover is Takeover.REPLACE:
        tell(f"draining app {settings.app}, which runs already; this one takes its place")
        await old.drain(settings.drain_timeout_s)
        await old.wait_over()
    if takeover in {Takeover.NOTHING, Takeover.REPLACE}:
        await old.end()
        return create_missing(parts, ports), False
    tell(f"app {settings.app} runs already on this cluster; attached to it")
    dispatchers = create_missing(parts, ports)
    if takeover is Takeover.RENEW:
        await dispatchers.change_program(parts.program, relaunch=False)
    return dispatchers, True


__all__ = ["Deployment", "deploy", "program_environment"]
