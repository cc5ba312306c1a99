"""The session hosts that are known: their states, signs of life, and how long starts take."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from voxray.actors.contracts import Endpoint
from voxray.base.errors import InvalidTransitionError
from voxray.base.ids import HostId

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
        load: the program's own load, if it reports one.
        empty_since: since when it holds no job; None while it does.
        stop_reason: why it is being stopped.
        killed: whether it is stopped by force.
    """

    host_id: HostId
    state: HostState
    created_at: float
    found: bool
    deadline: float | None
    last_sign: float
    endpoint: Endpoint | None = None
    ready_at: float = 0.0
    sequence: int = -1
    load: float | None = None
    loop_lag_s: float = 0.0
    empty_since: float | None = None
    stop_reason: str = ""
    killed: bool = False


class HostTable:
    """All hosts that exist as far as the dispatcher knows.

    Args:
        lease_s: silence after which a host is lost; after half of it, it gets no more jobs.
    """

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._hosts: dict[HostId, HostRecord] = {}
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
        return sum(1 for host in self._hosts.values() if host.state is state)

    def add(self, host: HostRecord) -> None:
        """Take a host in.

        Raises:
            InvalidTransitionError: its id was used before.
        """
        if host.host_id in self._hosts or host.host_id in self._gone:
            raise InvalidTransitionError(host.host_id, "a host id was used twice")
        self._hosts[host.host_id] = host

    def remove(self, host_id: HostId) -> None:
        """Let a host go, for good."""
        del self._hosts[host_id]
        self._gone[host_id] = None
        while len(self._gone) > GONE_KEPT:
            self._gone.popitem(last=False)

    def started(self, host: HostRecord, now: float) -> None:
        """Note that a host became ready; the next one is expected to take as long."""
        host.state = HostState.READY
        host.ready_at = host.empty_since = now
        host.deadline = None
        if not host.found:
            self._start_s = now - host.created_at

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

    def ready_soon(self, now: float, within_s: float) -> int:
        """Return how many starting hosts may be ready within a time.

        By the length of the last start; before there was one, any start may be a quick one.
        """
        return sum(
            1
            for host in self._hosts.values()
            if host.state is HostState.STARTING
            and (
                host.found
                or self._start_s is None
                or host.created_at + self._start_s <= now + within_s
            )
        )

    def next_deadline(self, now: float) -> float | None:
        """Return when the next host falls silent or expires."""
        times = [
            self._expires_at(host)
            if host.state is not HostState.READY or self.silent(host, now)
            else self._silent_at(host)
            for host in self._hosts.values()
        ]
        return min(times, default=None)

    def _silent_at(self, host: HostRecord) -> float:
        return host.last_sign + self._lease_s / 2

    def _expires_at(self, host: HostRecord) -> float:
        return host.deadline if host.deadline is not None else host.last_sign + self._lease_s
