"""Where an app is in its life, for whoever waits for it: starting, running, draining, over."""

import asyncio
from enum import StrEnum

from voxray.base.errors import ActorStartError, VoxrayError
from voxray.base.settings import InferenceSettings
from voxray.observability import events as ev


class Phase(StrEnum):
    """An app's phase. DRAINED and FAILED are its last."""

    STARTING = "starting"
    RUNNING = "running"
    DRAINING = "draining"
    DRAINED = "drained"
    FAILED = "failed"


class PhaseBoard:
    """Follows the events of a start: an app runs once it is registered, a host takes jobs, and
    every replica group has a replica.

    A host that does not start, or a group of which none does, fails the app while it is starting;
    later it is only reported, because calls are there to be kept.
    """

    def __init__(self, inference: InferenceSettings) -> None:
        # Groups without a replica, and how many of each may still fail before it is hopeless.
        self._missing_groups = {group.name: group.replicas for group in inference.groups}
        self._waiting_replicas: dict[str, str] = {}
        self._registered = False
        self._host_ready = False
        self._api_url = ""
        self._phase = Phase.STARTING
        self._error: VoxrayError | None = None
        self._version = 1
        self._changed = asyncio.Event()

    @property
    def phase(self) -> Phase:
        """The phase now."""
        return self._phase

    @property
    def error(self) -> VoxrayError | None:
        """What failed the app, or None."""
        return self._error

    def listening(self, api_url: str) -> None:
        """The HTTP API is open."""
        self._api_url = api_url
        self._bump()

    def draining(self) -> None:
        """A drain or a shutdown began."""
        if self._phase in {Phase.STARTING, Phase.RUNNING}:
            self._move(Phase.DRAINING)

    def drained(self) -> None:
        """Everything is over."""
        if self._phase is not Phase.FAILED:
            self._move(Phase.DRAINED)

    def failed(self, error: VoxrayError) -> None:
        """Something made the start, or going on, impossible."""
        if self._phase in {Phase.STARTING, Phase.RUNNING}:
            self._error = error
            self._move(Phase.FAILED)

    def emit(self, event: ev.Event) -> None:
        """Take one event."""
        if self._phase is not Phase.STARTING:
            return
        match event:
            case ev.WorkerRegistered():
                self._registered = True
            case ev.HostReady():
                self._host_ready = True
            case ev.ReplicaReady(group=group):
                self._missing_groups.pop(group, None)
            case ev.ReplicaWaiting(replica_id=replica_id, group=group, reason=reason):
                self._waiting_replicas[group] = f"{replica_id} {reason}"
            case ev.HostStartFailed(reason=reason, details=details) if not self._host_ready:
                error = ActorStartError(f"no session host could start: {reason}")
                error.details = details
                self.failed(error)
                return
            case ev.ReplicaLost(group=group, reason=reason) if group in self._missing_groups:
                self._missing_groups[group] -= 1
                if self._missing_groups[group] <= 0:
                    self.failed(ActorStartError(reason))
                return
            case _:
                return
        if self._waiting_for():
            self._bump()
        else:
            self._move(Phase.RUNNING)

    async def wait(self, after: int, wait_s: float) -> dict[str, object]:
        """Return the state as plain data once its version differs from `after`, or after a wait."""
        if self._version == after and wait_s > 0:
            try:
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
            except TimeoutError:
                pass
        return {
            "version": self._version,
            "phase": self._phase.value,
            "waiting_for": self._waiting_for(),
            "api_url": self._api_url,
            "error": str(self._error) if self._error else "",
            "error_details": list(self._error.details) if self._error else [],
            "error_type": type(self._error).__name__ if self._error else "",
        }

    def _waiting_for(self) -> str:
        parts = []
        if not self._registered:
            parts.append("LiveKit")
        if not self._host_ready:
            parts.append("a session host")
        if self._missing_groups:
            missing = sorted(self._missing_groups)
            shown = (self._waiting_replicas.get(group, group) for group in missing)
            parts.append(f"inference ({', '.join(shown)})")
        return " and ".join(parts)

    def _move(self, phase: Phase) -> None:
        self._phase = phase
        self._bump()

    def _bump(self) -> None:
        self._version += 1
        self._changed.set()
        self._changed = asyncio.Event()
