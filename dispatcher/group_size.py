"""How many replicas a group should have, from its streams and its queue; pure.

A group grows by one when more than `GROW_SHARE` of its streams are in use, or its work waits longer
than `grow_queue_ms`, all the time for `GROW_AFTER_S`; the next one comes only when that one is up
and it is still too much. It shrinks by one when all streams would fit into `SHRINK_SHARE` of one
replica less, and its queue is shorter than a quarter of what makes it grow, all the time for
`SHRINK_AFTER_S`. What makes it grow and what makes it shrink lie so far apart that neither follows
from the other under the same load.
"""

from dataclasses import dataclass

from voxray.base.settings import ReplicaGroupSettings

GROW_SHARE = 0.75
"""Share of the streams in use from which one replica more is wanted: room for a burst meanwhile."""
GROW_AFTER_S = 3.0
"""A call's first moments, or one large batch, start no replica."""
SHRINK_SHARE = 0.5
"""Share of the streams of one replica less up to which that one is not needed."""
SHRINK_AFTER_S = 60.0
"""A model takes long to load: what may be wanted again in a minute stays."""
_SHRINK_QUEUE_SHARE = 0.25


@dataclass(frozen=True, kw_only=True)
class GroupLoad:
    """A group now.

    Attributes:
        ready: replicas that take streams.
        starting: replicas on their way, those that wait for a device included.
        streams: open streams of those that are ready.
        queue_s: seconds that work waits, on average over those that are ready.
    """

    ready: int
    starting: int
    streams: int
    queue_s: float


class GroupSize:
    """The size of one group; time is monotonic seconds."""

    def __init__(self, group: ReplicaGroupSettings) -> None:
        """Begin with the least that the group may have."""
        self._least, self._most = group.replicas, group.most
        self._max_streams = group.max_streams
        self._grow_queue_s = group.grow_queue_ms / 1000
        self._wanted = self._least
        self._busy_since: float | None = None
        self._quiet_since: float | None = None

    @property
    def wanted(self) -> int:
        """Replicas that there should be."""
        return self._wanted

    def found(self, count: int) -> None:
        """Begin with what an earlier dispatcher left running, within the bounds."""
        self._wanted = min(max(count, self._least), self._most)

    def decide(self, load: GroupLoad, now: float) -> int:
        """Return how many replicas there should be."""
        self._busy_since = _since(self._busy_since, now) if self._busy(load) else None
        self._quiet_since = _since(self._quiet_since, now) if self._quiet(load) else None
        if self._busy_since is not None and now >= self._busy_since + GROW_AFTER_S:
            # Nothing is on its way: `_busy` says so.
            self._wanted += 1
            self._busy_since = None
        elif self._quiet_since is not None and now >= self._quiet_since + SHRINK_AFTER_S:
            self._wanted -= 1
            self._quiet_since = None
        return self._wanted

    def next_look(self) -> float | None:
        """Return when time alone changes the size."""
        if self._busy_since is not None:
            return self._busy_since + GROW_AFTER_S
        return None if self._quiet_since is None else self._quiet_since + SHRINK_AFTER_S

    def _busy(self, load: GroupLoad) -> bool:
        if self._wanted >= self._most or load.starting or load.ready < self._wanted:
            return False
        full = load.streams > GROW_SHARE * self._max_streams * load.ready
        return full or load.queue_s > self._grow_queue_s

    def _quiet(self, load: GroupLoad) -> bool:
        if self._wanted <= self._least:
            return False
        left = min(load.ready, self._wanted - 1)
        fits = load.streams <= SHRINK_SHARE * self._max_streams * left
        return fits and load.queue_s <= _SHRINK_QUEUE_SHARE * self._grow_queue_s


def _since(before: float | None, now: float) -> float:
    return now if before is None else before
