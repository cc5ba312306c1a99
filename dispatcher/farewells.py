"""When LiveKit is told that a job has ended: not while its server still looks for the job itself.

As an agent leaves its room, livekit-server (1.13.5) asks the node of the agent's worker to
terminate the job, by a call of 3 s. A worker's "this job has ended" that comes meanwhile takes the
lock of all workers of that node and waits for this very call, which needs the lock
(`AgentHandler.deregisterJob`, psrpc's `close`). For up to 3 s no job is given to anybody there: the
next caller would be left alone. So the end of a job that was in its room is told a little later;
nobody waits for it, our slot is free at once.
"""

from collections import deque

from voxray.dispatcher.commands import UpdateJob

HOLD_S = 4.0
"""Longer than the server's call (psrpc's default timeout of 3 s)."""


class Farewells:
    """The ends of jobs that LiveKit has still to be told, in the order of their times."""

    def __init__(self) -> None:
        self._held: deque[tuple[float, UpdateJob]] = deque()

    def hold(self, update: UpdateJob, now: float) -> None:
        """Keep an update until the server can take it."""
        self._held.append((now + HOLD_S, update))

    def due(self, now: float) -> list[UpdateJob]:
        """Take out what may be told now."""
        updates: list[UpdateJob] = []
        while self._held and self._held[0][0] <= now:
            updates.append(self._held.popleft()[1])
        return updates

    def all(self) -> list[UpdateJob]:
        """Take out everything: the connection is about to end."""
        updates = [update for _, update in self._held]
        self._held.clear()
        return updates

    def clear(self) -> None:
        """Forget everything: LiveKit forgets the jobs of a worker whose connection broke."""
        self._held.clear()

    def next_due(self) -> float | None:
        """Return when the next one may be told."""
        return self._held[0][0] if self._held else None
