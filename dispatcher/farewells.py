"""When LiveKit is told that a job has ended: not while its server still ends the job itself.

As an agent leaves its room, livekit-server (1.13.5) calls the node of the agent's worker to
terminate the job (`Room.RemoveParticipant`): by psrpc the node claims the call, then carries it
out. An update "this job has ended" that comes before takes the receiver of that call away
(`AgentHandler.deregisterJob`), and the server's call waits in vain for the rest of its 3 s. Seen:
the termination does not arrive. Hand-overs of a slot once seemed to wait for such calls; but the
source names no lock that is held so long (`DeregisterHandler` closes without waiting), and 20
trials with a bare worker, four ways of leaving at 0 to 0.5 s, gave the next job after 0.2 s. Told
late, the end meets nothing, and our slot is free at once all the same.

The 3 s bound every way to leave: a deleted room, dispatch or participant ends in the same call. A
websocket that closes makes the node take the receivers of all its jobs away, by the same code.
"""

from collections import deque

from voxray.dispatcher.commands import UpdateJob

HOLD_S = 4.0
"""Longer than the server's call (psrpc's `DefaultClientTimeout`, 3 s). Deleting a dispatch may wait
3 s for the agent to leave after it; the call is answered by then, and nothing is disturbed."""


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
