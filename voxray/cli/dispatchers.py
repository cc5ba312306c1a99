"""An app's dispatcher actors as the command line sees them: made, found, asked, ended."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar

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
from voxray.base.ids import dispatcher_actor_name
from voxray.base.sealed import Sealed
from voxray.base.settings import Settings
from voxray.cli.takeover import RunningDispatcher

# Ray's type of a handle differs with how the class was decorated; its methods are untyped anyway.
_Handle: TypeAlias = Any
T = TypeVar("T")
# How long one question for a changed state may stay open at a dispatcher.
_STATE_WAIT_S = 1.0
_CLOSE_DEADLINE_S = 30.0
DISPATCHER_CPUS = 0.1
"""CPU share that a dispatcher asks Ray for."""
_LOOK_S = 10.0
_MAX_DISPATCHERS = 16
# A dispatcher names the class of what made its start impossible.
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
class AppParts:
    """What the dispatchers of an app are made with. Secrets go sealed: see `base.sealed`."""

    settings: Settings
    program: ProgramInfo
    environment: Sealed[dict[str, str]]
    token: Sealed[str]


class Dispatchers:
    """All dispatchers of one app. The app is over when all of them are."""

    def __init__(self, handles: Sequence[_Handle]) -> None:
        self._handles = tuple(handles)
        self._drain: tuple[float | None] | None = None

    async def wait_started(self, tell: Callable[[str], None]) -> list[str]:
        """Wait until every one runs; return the addresses of their APIs in their order.

        Raises:
            VoxrayError: why one can't begin.
        """
        told: dict[int, str] = {}

        def waiting(index: int, what: str) -> None:
            if told.get(index) != what and what not in told.values():
                tell(f"waiting for {what}")
            told[index] = what

        return await _all(
            _started(handle, partial(waiting, index)) for index, handle in enumerate(self._handles)
        )

    async def phase(self) -> str:
        """Return the app's phase: that of the dispatcher that is least far in its life."""
        states = await _all(_state(handle) for handle in self._handles)
        order = ("starting", "running", "draining", "drained", "failed")
        return min((str(state["phase"]) for state in states), key=order.index)

    async def drain(self, deadline_s: float | None) -> None:
        """Let all of them begin to drain."""
        self._drain = (deadline_s,)
        await _all(_call(handle, "drain", deadline_s) for handle in self._handles)

    async def change_program(self, program: ProgramInfo, *, relaunch: bool) -> None:
        """Make a program the current one of all of them."""
        await _all(
            _call(handle, "change_program", program, relaunch=relaunch) for handle in self._handles
        )

    async def shutdown(self) -> None:
        """Let all of them end everything now."""
        await _all(_call(handle, "shutdown") for handle in self._handles)

    async def wait_over(self) -> VoxrayError | None:
        """Wait until the app has drained, or one of them failed; return why it failed."""
        tasks = [asyncio.create_task(self._over(handle)) for handle in self._handles]
        try:
            for task in asyncio.as_completed(tasks):
                if (failure := await task) is not None:
                    return failure
            return None
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def end(self) -> None:
        """Stop everything that still runs; the actors are detached and would stay on a cluster.

        Raises:
            DeadlineError: something did not end in time; it was killed.
        """
        import ray  # noqa: PLC0415 - after its environment (see cluster.join)

        try:
            async with asyncio.timeout(_CLOSE_DEADLINE_S):
                await _all(_end_one(handle) for handle in self._handles)
        except TimeoutError as error:
            raise DeadlineError(
                f"the app did not end within {_CLOSE_DEADLINE_S:g} s; its processes are killed"
            ) from error
        finally:
            for handle in self._handles:
                ray.kill(handle)

    async def _over(self, handle: _Handle) -> VoxrayError | None:
        async for state in _states(handle):
            match state["phase"]:
                case "drained":
                    return None
                case "failed":
                    return _failure(state)
                case "running" if self._drain is not None:
                    # It died during the drain; the one that Ray made in its place knows nothing.
                    await _call(handle, "drain", *self._drain)
        raise AssertionError("a dispatcher never ceases to report")


def create_missing(parts: AppParts, ports: Sequence[int]) -> Dispatchers:
    """Make the app's dispatchers that are not there, and return all of them.

    Args:
        parts: what each is made with.
        ports: of their HTTP APIs, one for each.
    """
    import ray  # noqa: PLC0415 - after its environment (see cluster.join)

    from voxray.dispatcher.dispatcher_actor import DispatcherActor  # noqa: PLC0415 - imports ray
    from voxray.dispatcher.role import Role  # noqa: PLC0415 - beside the actor

    settings = parts.settings
    handles: list[_Handle] = []
    for index, port in enumerate(ports):
        name = dispatcher_actor_name(index)
        with contextlib.suppress(ValueError):
            handles.append(ray.get_actor(name))
            continue
        handles.append(
            ray.remote(DispatcherActor)
            .options(
                name=name,
                namespace=settings.app,
                lifetime="detached",
                max_restarts=-1,
                max_concurrency=16,
                num_cpus=DISPATCHER_CPUS,
                # One node's end must not take all of them.
                scheduling_strategy="SPREAD" if len(ports) > 1 else "DEFAULT",
            )
            .remote(
                settings,
                parts.program,
                parts.environment,
                parts.token,
                Role(index=index, count=len(ports), port=port),
            )
        )
    return Dispatchers(handles)


async def look() -> tuple[Dispatchers, list[RunningDispatcher]]:
    """Return the app's dispatchers that are alive on the cluster.

    One that does not answer, as a hung one, is ended: Ray does not end it, and its name is taken.
    """
    import ray  # noqa: PLC0415 - after its environment (see cluster.join)
    from ray.exceptions import RayError  # noqa: PLC0415 - as above

    handles: list[_Handle] = []
    running: list[RunningDispatcher] = []
    names = set(ray.util.list_named_actors())
    for index in range(_MAX_DISPATCHERS):
        name = dispatcher_actor_name(index)
        if name not in names:
            continue
        handle: _Handle = ray.get_actor(name)
        try:
            async with asyncio.timeout(_LOOK_S):
                state = await _state(handle)
                made_of = await handle.made_of.remote()
        except (VoxrayError, RayError, TimeoutError):
            ray.kill(handle)
            continue
        handles.append(handle)
        running.append(
            RunningDispatcher(
                phase=state["phase"], settings=made_of.settings, program=made_of.program
            )
        )
    return Dispatchers(handles), running


async def _all(calls: Iterable[Awaitable[T]]) -> list[T]:
    return list(await asyncio.gather(*calls))


async def _started(handle: _Handle, waiting: Callable[[str], None]) -> str:
    async for state in _states(handle):
        if state["phase"] == "failed":
            raise _failure(state)
        if state["phase"] != "starting":
            return str(state["api_url"])
        waiting(state["waiting_for"])
    raise AssertionError("a dispatcher never ceases to report")


async def _end_one(handle: _Handle) -> None:
    from ray.exceptions import RayError  # noqa: PLC0415 - after Ray's environment

    try:
        await handle.shutdown.remote()
        async for state in _states(handle):
            if state["phase"] in {"drained", "failed"}:
                break
        await handle.close.remote()
    except (RayError, ActorStartError):
        # It is gone already: there is nothing left to end in order.
        pass


def _failure(state: Mapping[str, Any]) -> VoxrayError:
    error = _START_ERRORS.get(state["error_type"], VoxrayError)(state["error"])
    error.details = tuple(state.get("error_details", ()))
    return error


async def _states(handle: _Handle) -> AsyncIterator[dict[str, Any]]:
    """Yield a dispatcher's state, and again whenever it has changed."""
    from ray.exceptions import ActorUnavailableError  # noqa: PLC0415 - after Ray's environment

    version = 0
    while True:
        try:
            state = await _state(handle, version, _STATE_WAIT_S)
        except ActorUnavailableError:
            # Ray restarts it; calls go on meanwhile.
            version = 0
            await asyncio.sleep(_STATE_WAIT_S)
            continue
        if state["version"] != version:
            version = state["version"]
            yield state


async def _state(handle: _Handle, after: int = 0, wait_s: float = 0.0) -> dict[str, Any]:
    from ray.exceptions import (  # noqa: PLC0415 - after Ray's environment
        ActorUnavailableError,
        RayError,
    )

    try:
        state: dict[str, Any] = await handle.state.remote(after, wait_s)
    except ActorUnavailableError:
        raise
    except RayError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ActorStartError(f"the dispatcher does not answer: {reason}") from error
    return state


async def _call(handle: _Handle, method: str, *arguments: object, **named: object) -> None:
    """Call one, if it is there; one that Ray restarts is told when it is back (see `_over`)."""
    from ray.exceptions import ActorUnavailableError  # noqa: PLC0415 - after Ray's environment

    with contextlib.suppress(ActorUnavailableError):
        await getattr(handle, method).remote(*arguments, **named)
