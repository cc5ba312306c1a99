"""Brings an app up on a Ray cluster and takes it down again.

`start`, `demo`, the tests and the benchmarks all use it, so that they run the same thing.
"""

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError

from voxray.actors.contracts import ProgramInfo
from voxray.base.errors import (
    ActorStartError,
    ConfigError,
    ConnectionFailedError,
    CredentialsError,
    DeadlineError,
    PortTakenError,
    VoxrayError,
)
from voxray.base.ids import DISPATCHER_ACTOR
from voxray.base.settings import LiveKitSettings, Settings
from voxray.cli import cluster as clusters
from voxray.cli.probe import ProbedProgram, probe_program
from voxray.pipelines.engines.registry import check_names

# Variables that reach the program's processes on a cluster that this process did not start. On a
# local one they inherit the whole environment.
_FORWARDED_PREFIXES = ("LIVEKIT_", "OTEL_", "VOXRAY_")
# How long one question for a changed state may stay open at the dispatcher.
_STATE_WAIT_S = 1.0
_CLOSE_DEADLINE_S = 30.0
# The dispatcher names the class of what made its start impossible.
_START_ERRORS: Mapping[str, type[VoxrayError]] = {
    error.__name__: error
    for error in (
        ActorStartError,
        ConfigError,
        ConnectionFailedError,
        CredentialsError,
        PortTakenError,
    )
}


@dataclass(frozen=True, kw_only=True)
class _Access:
    dispatcher: Any
    token: str
    api_url: str


class Deployment:
    """A running app.

    Attributes:
        app: its name and Ray namespace.
        api_url: the dispatcher's HTTP API.
        api_token: what the API asks for beyond loopback.
        metrics_url: the dispatcher's metrics page; `/sd` beside it lists all the others.
        dashboard_url: Ray's dashboard, or None.
        program: what was read of the program.
        sources: the files that it imported, without what is installed.
        detached: whether the app goes on when the context ends.
    """

    def __init__(
        self, settings: Settings, program: ProgramInfo, cluster: clusters.Cluster, access: _Access
    ) -> None:
        self.app = settings.app
        self.api_url = access.api_url
        self.api_token = access.token
        self.metrics_url = f"{access.api_url}/metrics"
        self.dashboard_url = cluster.dashboard_url
        self.program = program
        self.sources: frozenset[Path] = frozenset()
        self.detached = False
        self._dispatcher = access.dispatcher

    def detach(self) -> None:
        """Leave the app running on its cluster when the context ends."""
        self.detached = True

    async def phase(self) -> str:
        """Return the dispatcher's phase: starting, running, draining, drained or failed."""
        return str((await _state(self._dispatcher))["phase"])

    async def change_program(self, program: ProgramInfo, *, relaunch: bool) -> None:
        """Give new jobs to another version; with `relaunch`, live calls begin anew with it."""
        await self._dispatcher.change_program.remote(program, relaunch=relaunch)
        self.program = program

    async def begin_drain(self, deadline_s: float | None = None) -> None:
        """Refuse new jobs; the running ones end by themselves or at the deadline."""
        await self._dispatcher.drain.remote(deadline_s)

    async def stop(self) -> None:
        """End all calls, hosts and replicas now, and wait until they are gone."""
        await self._dispatcher.shutdown.remote()
        await self.wait_over()

    async def wait_over(self) -> VoxrayError | None:
        """Wait until the app has drained or failed; return why it failed."""
        async for state in _states(self._dispatcher):
            if state["phase"] == "drained":
                return None
            if state["phase"] == "failed":
                return _failure(state)
        raise AssertionError("a dispatcher never ceases to report")


@asynccontextmanager
async def deploy(
    program_path: Path,
    settings: Settings,
    *,
    log_to_driver: bool = False,
    on_progress: Callable[[str], None] | None = None,
    on_joined: Callable[[], None] | None = None,
) -> AsyncIterator[Deployment]:
    """Run a program as an app until the context ends.

    Enter it on the main thread: Ray sets its signal handlers there.

    Args:
        program_path: the livekit-agents program.
        settings: of the app; what its `livekit` part lacks is taken from the program.
        log_to_driver: print the actors' output here.
        on_progress: told in a few words what is going on.
        on_joined: called once Ray has set its own signal handlers, which this one may replace.

    Raises:
        ConfigError: settings, program, keys or a port are wrong.
        ConnectionFailedError: Ray or LiveKit can't be reached.
        ActorStartError: no session host or no inference replica could be started.
    """
    for group in settings.inference.groups:
        check_names(group.engines)
    settings = _with_port(settings)
    tell = on_progress or (lambda _: None)
    tell("loading the program and starting Ray")
    probe = asyncio.create_task(
        probe_program(program_path, program_environment(settings)), name="probe-program"
    )
    try:
        if not settings.livekit.complete:
            # Nobody has to wait for Ray to hear that a key is missing.
            settings = _with_connection(settings, await probe)
        # The event loop stands still meanwhile; the probe runs in a process of its own.
        cluster = clusters.join(settings.ray, namespace=settings.app, log_to_driver=log_to_driver)
        if on_joined is not None:
            on_joined()
    except BaseException:
        probe.cancel()
        await asyncio.wait([probe])
        raise
    try:
        probed = await probe
        program = probed.info
        dispatcher, token = _create_dispatcher(settings, program, local=cluster.local)
        deployment: Deployment | None = None
        try:
            tell("starting the dispatcher, a session host and inference")
            state = await _wait_started(dispatcher, tell)
            access = _Access(dispatcher=dispatcher, token=token, api_url=state["api_url"])
            deployment = Deployment(settings, program, cluster, access)
            deployment.sources = probed.sources
            yield deployment
        finally:
            if deployment is None or not deployment.detached:
                await _end(dispatcher)
    finally:
        cluster.close()


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


def _with_port(settings: Settings) -> Settings:
    """Choose the port of the API, so that a restarted dispatcher keeps it, and try it.

    Raises:
        PortTakenError: before anything was started.
    """
    if settings.ray.address:
        return settings
    with socket.socket() as probe:
        # As the server will: a port whose last connections are still closing is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.http.host, settings.http.port))
        except OSError as error:
            raise PortTakenError(
                f"port {settings.http.port} on {settings.http.host} can't be listened on: "
                f"{error.strerror}; set http.port (0 takes a free one)"
            ) from error
        port = probe.getsockname()[1]
    return settings.model_copy(update={"http": settings.http.model_copy(update={"port": port})})


def _create_dispatcher(settings: Settings, program: ProgramInfo, *, local: bool) -> tuple[Any, str]:
    import ray  # noqa: PLC0415 - after its environment (see cluster.join)

    from voxray.dispatcher.dispatcher_actor import DispatcherActor  # noqa: PLC0415 - imports ray

    with contextlib.suppress(ValueError):
        ray.get_actor(DISPATCHER_ACTOR)
        raise ConfigError(
            f"app {settings.app} already runs on this cluster; drain it first, or give this one "
            "another name (VOXRAY_APP or `app` in voxray.yaml)"
        )
    environment = program_environment(settings)
    if not local:
        environment = {
            name: value
            for name, value in environment.items()
            if name.startswith(_FORWARDED_PREFIXES)
        }
    token = secrets.token_urlsafe(32)
    dispatcher = (
        ray.remote(DispatcherActor)
        .options(
            name=DISPATCHER_ACTOR,
            namespace=settings.app,
            lifetime="detached",
            max_restarts=-1,
            max_concurrency=16,
            num_cpus=0.1,
        )
        .remote(settings, program, environment, token)
    )
    return dispatcher, token


async def _wait_started(dispatcher: Any, tell: Callable[[str], None]) -> dict[str, Any]:
    told = ""
    async for state in _states(dispatcher):
        if state["phase"] == "failed":
            raise _failure(state)
        if state["phase"] != "starting":
            return state
        if state["waiting_for"] != told:
            told = state["waiting_for"]
            tell(f"waiting for {told}")
    raise AssertionError("a dispatcher never ceases to report")


def _failure(state: Mapping[str, Any]) -> VoxrayError:
    error = _START_ERRORS.get(state["error_type"], VoxrayError)(state["error"])
    error.details = tuple(state.get("error_details", ()))
    return error


async def _states(dispatcher: Any) -> AsyncIterator[dict[str, Any]]:
    """Yield the dispatcher's state, and again whenever it has changed."""
    from ray.exceptions import ActorUnavailableError  # noqa: PLC0415 - after Ray's environment

    version = 0
    while True:
        try:
            state = await _state(dispatcher, version, _STATE_WAIT_S)
        except ActorUnavailableError:
            # Ray restarts it; calls go on meanwhile.
            version = 0
            await asyncio.sleep(_STATE_WAIT_S)
            continue
        if state["version"] != version:
            version = state["version"]
            yield state


async def _state(dispatcher: Any, after: int = 0, wait_s: float = 0.0) -> dict[str, Any]:
    from ray.exceptions import (  # noqa: PLC0415 - after Ray's environment
        ActorUnavailableError,
        RayError,
    )

    try:
        state: dict[str, Any] = await dispatcher.state.remote(after, wait_s)
    except ActorUnavailableError:
        raise
    except RayError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ActorStartError(f"the dispatcher does not answer: {reason}") from error
    return state


async def _end(dispatcher: Any) -> None:
    """Stop everything that still runs; the actors are detached and would stay on a cluster."""
    import ray  # noqa: PLC0415 - after its environment (see cluster.join)
    from ray.exceptions import RayError  # noqa: PLC0415 - as above

    try:
        async with asyncio.timeout(_CLOSE_DEADLINE_S):
            await dispatcher.shutdown.remote()
            async for state in _states(dispatcher):
                if state["phase"] in {"drained", "failed"}:
                    break
            await dispatcher.close.remote()
    except TimeoutError as error:
        raise DeadlineError(
            f"the app did not end within {_CLOSE_DEADLINE_S:g} s; its processes are killed"
        ) from error
    except (RayError, ActorStartError):
        # It is gone already: there is nothing left to end in order.
        pass
    finally:
        ray.kill(dispatcher)


__all__ = ["Deployment", "deploy", "program_environment"]
