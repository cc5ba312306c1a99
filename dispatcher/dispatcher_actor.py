"""Ray shell of a dispatcher: a named, detached actor that Ray restarts.

A restarted one is made with the same arguments; it finds hosts and replicas by their names and
learns from them what they run, so that calls never notice.
"""

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray
from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_put
from ray.util import get_node_ip_address

from voxray.actors.contracts import ProgramInfo
from voxray.base.lifecycle import LoopThread
from voxray.base.priority import come_back
from voxray.base.sealed import Sealed
from voxray.base.settings import Settings
from voxray.base.timing import SystemClock
from voxray.dispatcher.access import Access
from voxray.dispatcher.collector import Collector
from voxray.dispatcher.kept import Kept
from voxray.dispatcher.peers import ASK_S, Question
from voxray.dispatcher.ray_context import FleetContext
from voxray.dispatcher.ray_fleet import RayFleet
from voxray.dispatcher.role import Role
from voxray.dispatcher.service import DispatcherService
from voxray.observability import logs

_START_S = 30.0
_CLOSE_S = 20.0
# Pause between looks whether the collector may take its time.
_SWEEP_S = 600.0
# What a caller of `state` may wait for a change, at most: calls of an actor stay short.
_MAX_WAIT_S = 2.0


@dataclass(frozen=True, kw_only=True)
class MadeOf:
    """What a running app was started with, for whoever finds it running."""

    settings: Settings
    program: ProgramInfo


class DispatcherActor:
    """One of the app's dispatchers. Its methods only hand over to the service's own event loop."""

    def __init__(
        self,
        settings: Settings,
        program: ProgramInfo,
        environment: Sealed[dict[str, str]],
        token: Sealed[str],
        role: Role,
    ) -> None:
        come_back()
        logs.configure(settings.telemetry, role="dispatcher", fields={"app": settings.app})
        self._kept = Kept(_ControlStore())
        program = self._kept.program() or program
        self._settings = settings
        self._program = program
        fleet = RayFleet(
            FleetContext(settings=settings, environment=environment, token=token, role=role)
        )
        context = ray.get_runtime_context()
        self._self = context.current_actor
        self._loop = LoopThread("dispatcher")
        self._service = DispatcherService(
            settings,
            program,
            fleet,
            access=Access(
                token=token.open(),
                environment=environment.open(),
                node=context.get_node_id(),
                address=str(get_node_ip_address()),  # type: ignore[no-untyped-call]  # ray.util is untyped
                role=role,
                on_over=self._end,
                kept=self._kept,
            ),
            clock=SystemClock(),
        )
        # What makes a start impossible is in `state`: raised here, Ray would restart us for ever.
        self._loop.call(self._service.start(), _START_S)
        self._collector = Collector()
        self._collector.start()
        self._loop.submit(self._sweep_at_times())

    def state(self, after: int = 0, wait_s: float = 0.0) -> dict[str, object]:
        """Return the phase, once its version is beyond `after` or `wait_s` has passed."""
        wait_s = min(wait_s, _MAX_WAIT_S)
        return self._loop.call(self._service.state(after, wait_s), wait_s + _CLOSE_S)

    def answer(self, question: str, argument: object) -> Any:
        """Answer another dispatcher (`peers.Question`), about this one alone."""
        return self._loop.call(self._service.answer(Question(question), argument), ASK_S)

    def made_of(self) -> MadeOf:
        """Return what the app runs with."""
        return MadeOf(settings=self._settings, program=self._program)

    def change_program(self, info: ProgramInfo, *, relaunch: bool = False) -> None:
        """Make a program, or a new version of it, the current one.

        Only hosts that run it get jobs from now on; the others end with their last call, or, with
        `relaunch`, as soon as their calls have begun anew with the new version.
        """
        self._program = info
        change = partial(self._service.change_program, info, relaunch=relaunch)
        self._loop.loop.call_soon_threadsafe(change)
        self._kept.keep_program(info)

    def drain(self, deadline_s: float | None = None) -> None:
        """Begin to drain; None waits as long as the program's own `drain_timeout`."""
        self._loop.loop.call_soon_threadsafe(self._service.drain, deadline_s)

    def shutdown(self) -> None:
        """Begin to end everything now."""
        self._loop.loop.call_soon_threadsafe(self._service.shutdown)

    def close(self) -> None:
        """Close the connections. Idempotent."""
        self._loop.call(self._service.aclose(), _CLOSE_S)
        self._loop.stop()

    async def _sweep_at_times(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            if self._service.idle:
                self._collector.sweep()

    def _end(self) -> None:
        """Leave the cluster: nobody else may be there any more to end us."""
        ray.kill(self._self, no_restart=True)


class _ControlStore:
    """Ray's control store. By actor id: the next dispatcher of the app begins with nothing."""

    def __init__(self) -> None:
        self._actor = ray.get_runtime_context().get_actor_id()

    def get(self, name: str) -> bytes | None:
        value: bytes | None = _internal_kv_get(self._key(name))
        return value

    def put(self, name: str, value: bytes) -> None:
        _internal_kv_put(self._key(name), value)

    def _key(self, name: str) -> bytes:
        return f"voxray-{name}-{self._actor}".encode()
