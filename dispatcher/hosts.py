"""The session hosts that are known: their states, signs of life, and how long starts take.

What placement has to know of a host changes only through the methods of `HostTable`, which tells
of each change; a plain heartbeat costs nothing but its own fields.
"""

import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from voxray.actors.contracts import Endpoint
from voxray.base.errors import InvalidTransitionError
from voxray.base.ids import HostId
from voxray.dispatcher.ranked import Ranked

GONE_KEPT = 1000
"""Hosts remembered after they went, so that a late report of one is told from a new host's."""
ADOPTION_S = 15.0
"""How long a host that was found running has to send its snapshot. Generous, because what it runs
is not known before, so that its calls could not be resumed elsewhere."""


class HostState(StrEnum):
    """STARTING -> READY -> STOPPING; a host that is lost or stopped is no longer in the table."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"


@dataclass(kw_only=True)
class HostRecord:
    """One host. Times are monotonic seconds.

    Attributes:
        found: it ran before this dispatcher did.
        deadline: by when a STARTING host has to be ready, a STOPPING one gone.
        last_sign: its last report.
        sequence: number of its last heartbeat.
        version: of the program that it runs; None until it has said so itself.
        load: the program's own load, if it reports one.
        empty_since: since when it holds no job; None while it does.
        stop_reason: why it is being stopped.
        killed: whether it is stopped by force.
        single_use: it takes one job in its life.
        spent: that job is over: it takes no other, and is stopped.
    """

    host_id: HostId
    state: HostState
    created_at: float
    found: bool
    deadline: float | None
    last_sign: float
    version: str | None = None
    endpoint: Endpoint | None = None
    ready_at: float = 0.0
    sequence: int = -1
    load: float | None = None
    loop_lag_s: float = 0.0
    empty_since: float | None = None
    stop_reason: str = ""
    killed: bool = False
    single_use: bool = False
    spent: bool = False


class HostTable:
    """All hosts that exist as far as the dispatcher knows.

    Args:
        lease_s: silence after which a host is lost; after half of it, it gets no more jobs.

    Attributes:
        on_change: told of a host whose state, load, version or silence changed, and of one that
            came or went.
    """

    def __init__(self, lease_s: float) -> None:
        self.on_change: Callable[[HostRecord], None] = lambda _: None
        self._lease_s = lease_s
        self._hosts: dict[HostId, HostRecord] = {}
        self._by_state: dict[HostState, dict[HostId, HostRecord]] = {each: {} for each in HostState}
        # Never later than the truth: a sign of life moves it on only when it comes up.
        self._timers: Ranked[HostId, float] = Ranked()
        self._gone: OrderedDict[HostId, None] = OrderedDict()
        self._start_s: float | None = None

    def __len__(self) -> int:
        return len(self._hosts)

    def __iter__(self) -> Iterator[HostRecord]:
        return iter(tuple(self._hosts.values()))

    def __contains__(self, host_id: HostId) -> bool:
        return host_id in self._hosts

    def get(self, host_id: HostId) -> HostRecord | None:
        """Return a host that exists."""
        return self._hosts.get(host_id)

    def is_gone(self, host_id: HostId) -> bool:
        """Return whether a host was lost or stopped before."""
        return host_id in self._gone

    def count(self, state: HostState) -> int:
        """Return how many hosts are in a state."""
        return len(self._by_state[state])

    def add(self, host: HostRecord) -> None:
        """Take a host in.

        Raises:
            InvalidTransitionError: its id was used before.
        """
        if host.host_id in self._hosts or host.host_id in self._gone:
            raise InvalidTransitionError(host.host_id, "a host id was used twice")
        self._hosts[host.host_id] = host
        self._by_state[host.state][host.host_id] = host
        self._timers.put(host.host_id, self._expires_at(host))
        self.on_change(host)

    def remove(self, host_id: HostId) -> None:
        """Let a host go, for good."""
        host = self._hosts.pop(host_id)
        del self._by_state[host.state][host_id]
        self._timers.drop(host_id)
        self._gone[host_id] = None
        while len(self._gone) > GONE_KEPT:
            self._gone.popitem(last=False)
        self.on_change(host)

    def started(self, host: HostRecord, now: float) -> None:
        """Note that a host became ready; the next one is expected to take as long."""
        self._enter(host, HostState.READY)
        host.ready_at = now
        host.deadline = None
        if not host.found:
            self._start_s = now - host.created_at
        self._changed(host, now)

    def stopping(self, host: HostRecord, now: float, deadline: float, *, killed: bool) -> None:
        """Note that a host is being stopped, and has until `deadline` to be gone."""
        self._enter(host, HostState.STOPPING)
        host.killed = killed
        host.deadline = deadline
        self._changed(host, now)

    def reported(self, host: HostRecord, now: float, version: str) -> None:
        """Take the first report of a new control stream."""
        host.last_sign = now
        host.sequence = -1
        host.version = version
        self._changed(host, now)

    def spend(self, host: HostRecord) -> None:
        """Note that the one job of a single-use host is over."""
        host.spent = True
        self.on_change(host)

    def beat(self, host: HostRecord, now: float, sequence: int, load: float | None) -> bool:
        """Take a heartbeat; return whether it changed anything but the time of its last sign."""
        changed = load != host.load or self.silent(host, now)
        host.sequence = sequence
        host.last_sign = now
        host.load = load
        if changed:
            self._changed(host, now)
        return changed

    def occupied(self, host_id: HostId, taken: int, now: float) -> None:
        """Take note of how many slots of a host are taken now."""
        host = self._hosts.get(host_id)
        if host is None:
            return
        if taken:
            host.empty_since = None
        elif host.empty_since is None:
            host.empty_since = now
        self.on_change(host)

    def silent(self, host: HostRecord, now: float) -> bool:
        """Return whether a ready host's reports are late enough to give it no more jobs."""
        return host.state is HostState.READY and now >= self._silent_at(host)

    def expired(self, host: HostRecord, now: float) -> bool:
        """Return whether a host's lease, or its time to start or stop, is over."""
        return now >= self._expires_at(host)

    def forgive(self, gap_s: float) -> None:
        """Extend all leases: for `gap_s` it was us who did not listen."""
        for host in self._hosts.values():
            host.last_sign += gap_s
            self.on_change(host)

    def ready_soon(self, now: float, within_s: float) -> int:
        """Return how many starting hosts may be ready within a time.

        By the length of the last start; before there was one, any start may be a quick one.
        """
        return sum(
            1
            for host in self._by_state[HostState.STARTING].values()
            if host.found
            or self._start_s is None
            or host.created_at + self._start_s <= now + within_s
        )

    def ready_since(self, since: float) -> list[HostRecord]:
        """Return the READY hosts that became so at a time or later, the last one first."""
        # They lie in the order in which they became ready.
        latest = reversed(self._by_state[HostState.READY].values())
        return list(itertools.takewhile(lambda host: host.ready_at >= since, latest))

    def due(self, now: float) -> list[HostRecord]:
        """Return the hosts that fell silent or expired since they were returned last.

        One that has expired is returned every time, until it is let go.
        """
        found = []
        for host_id in self._timers.take_until(now):
            host = self._hosts[host_id]
            if self._turns_at(host) <= now:
                found.append(host)
            self._timers.put(host_id, self._next_turn(host, now))
        return found

    def next_deadline(self, now: float) -> float | None:
        """Return when the next host falls silent or expires."""
        while (first := self._timers.first()) is not None:
            at, host_id = first
            true_at = self._next_turn(self._hosts[host_id], now)
            if true_at <= at:
                return at
            self._timers.put(host_id, true_at)
        return None

    def _enter(self, host: HostRecord, state: HostState) -> None:
        del self._by_state[host.state][host.host_id]
        host.state = state
        self._by_state[state][host.host_id] = host

    def _changed(self, host: HostRecord, now: float) -> None:
        turn = self._next_turn(host, now)
        timer = self._timers.rank(host.host_id)
        if timer is None or turn < timer:
            self._timers.put(host.host_id, turn)
        self.on_change(host)

    def _next_turn(self, host: HostRecord, now: float) -> float:
        """Return when time changes something about a host, silence of which is known by `now`."""
        if host.state is HostState.READY and not self.silent(host, now):
            return self._silent_at(host)
        return self._expires_at(host)

    def _turns_at(self, host: HostRecord) -> float:
        return self._silent_at(host) if host.state is HostState.READY else self._expires_at(host)

    def _silent_at(self, host: HostRecord) -> float:
        return host.last_sign + self._lease_s / 2

    def _expires_at(self, host: HostRecord) -> float:
        return host.deadline if host.deadline is not None else host.last_sign + self._lease_s
