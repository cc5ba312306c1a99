"""Ray shell of the dispatcher: a named, detached actor that Ray restarts.

A restarted one is made with the same arguments; it finds hosts and replicas by their names and
learns from them what they run, so that calls never notice.
"""

from functools import partial

import ray
from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_put

from voxray.actors.contracts import ProgramInfo
from voxray.base.lifecycle import LoopThread
from voxray.base.priority import come_back
from voxray.base.settings import Settings
from voxray.base.timing import SystemClock
from voxray.dispatcher.ray_fleet import FleetContext, RayFleet
from voxray.dispatcher.service import Access, DispatcherService
from voxray.observability import logs

_START_S = 30.0
_CLOSE_S = 20.0
# What a caller of `state` may wait for a change, at most: calls of an actor stay short.
_MAX_WAIT_S = 2.0


class DispatcherActor:
    """The app's dispatcher. Its methods only hand over to the service's own event loop."""

    def __init__(
        self, settings: Settings, program: ProgramInfo, environment: dict[str, str], token: str
    ) -> None:
        come_back()
        logs.configure(settings.telemetry, role="dispatcher", fields={"app": settings.app})
        program = _kept_program() or program
        fleet = RayFleet(FleetContext(settings=settings, environment=environment, token=token))
        self._loop = LoopThread("dispatcher")
        self._service = DispatcherService(
            settings,
            program,
            fleet,
            access=Access(
                token=token,
                environment=environment,
                node=ray.get_runtime_context().get_node_id(),
            ),
            clock=SystemClock(),
        )
        # What makes a start impossible is in `state`: raised here, Ray would restart us for ever.
        self._loop.call(self._service.start(), _START_S)

    def state(self, after: int = 0, wait_s: float = 0.0) -> dict[str, object]:
        """Return the phase, once its version is beyond `after` or `wait_s` has passed."""
        wait_s = min(wait_s, _MAX_WAIT_S)
        return self._loop.call(self._service.state(after, wait_s), wait_s + _CLOSE_S)

    def change_program(self, info: ProgramInfo, *, relaunch: bool = False) -> None:
        """Make a program, or a new version of it, the current one.

        Only hosts that run it get jobs from now on; the others end with their last call, or, with
        `relaunch`, as soon as their calls have begun anew with the new version.
        """
        change = partial(self._service.change_program, info, relaunch=relaunch)
        self._loop.loop.call_soon_threadsafe(change)
        _keep_program(info)

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


# Ray restarts an actor with the arguments of its first start, so a program that came later is kept
# in Ray's control store. By actor id: the next dispatcher of the app has a program of its own.


def _keep_program(program: ProgramInfo) -> None:
    _internal_kv_put(_program_key(), program.model_dump_json().encode())


def _kept_program() -> ProgramInfo | None:
    if not ray.get_runtime_context().was_current_actor_reconstructed:
        return None
    kept = _internal_kv_get(_program_key())
    return ProgramInfo.model_validate_json(kept) if kept else None


def _program_key() -> bytes:
    return f"voxray-program-{ray.get_runtime_context().get_actor_id()}".encode()
