"""Slots as permits, and the load that LiveKit is told.

A permit is one call's place on one host, and one call of its tenant. It is reserved at the offer,
used from the start of the job, and released exactly once.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from voxray.base.errors import CapacityError, InvalidTransitionError
from voxray.base.ids import HostId

LOAD_CEILING = 0.69
"""Highest load reported while a slot is free: at 0.7 and more (`agents.target_load`) LiveKit gives
a worker no job at all."""


class PermitState(StrEnum):
    """A permit goes RESERVED -> USED -> RELEASED, or from RESERVED straight to RELEASED."""

    RESERVED = "reserved"
    USED = "used"
    RELEASED = "released"


class Permit:
    """One slot of one host. Made and changed by `SlotBook` only."""

    __slots__ = ("_state", "host_id", "number", "tenant")

    def __init__(self, host_id: HostId, number: int, tenant: str) -> None:
        self.host_id = host_id
        self.number = number
        self.tenant = tenant
        self._state = PermitState.RESERVED

    def __repr__(self) -> str:
        return f"<Permit {self.host_id}#{self.number} {self._state}>"

    @property
    def state(self) -> PermitState:
        """Where the permit is in its life."""
        return self._state

    def _change(self, to: PermitState) -> PermitState:
        before = self._state
        if before is PermitState.RELEASED or before is to:
            raise InvalidTransitionError(
                f"{self.host_id}#{self.number}", f"a {before} permit can't become {to}"
            )
        self._state = to
        return before


@dataclass(frozen=True, kw_only=True, slots=True)
class HostSlots:
    """The slots of one host, or of several together."""

    capacity: int
    reserved: int
    used: int

    @property
    def taken(self) -> int:
        """Slots that nobody else can have."""
        return self.reserved + self.used

    @property
    def free(self) -> int:
        """Slots that can be reserved."""
        return max(0, self.capacity - self.taken)


class SlotBook:
    """Who holds which slot of which host.

    Attributes:
        on_change: told which host's slots changed, after every change.
    """

    def __init__(self) -> None:
        self.on_change: Callable[[HostId], None] = lambda _: None
        self._tenants: Counter[str] = Counter()
        self._capacity: dict[HostId, int] = {}
        self._out: dict[HostId, dict[PermitState, int]] = {}
        self._number = 0

    def add_host(self, host_id: HostId, capacity: int) -> None:
        """Open a host's slots, or change how many it has."""
        self._capacity[host_id] = capacity
        self._out.setdefault(host_id, {PermitState.RESERVED: 0, PermitState.USED: 0})
        self.on_change(host_id)

    def remove_host(self, host_id: HostId) -> None:
        """Close a host's slots, all of them released before.

        Raises:
            InvalidTransitionError: a permit of the host is still out.
        """
        if self._capacity.pop(host_id, None) is None:
            return
        if any(self._out.pop(host_id).values()):
            raise InvalidTransitionError(host_id, "a host was removed with permits still out")
        self.on_change(host_id)

    def knows(self, host_id: HostId) -> bool:
        """Return whether a host's slots are open."""
        return host_id in self._capacity

    def slots(self, host_id: HostId) -> HostSlots:
        """Return how a host's slots stand; a host that is not known has none."""
        out = self._out.get(host_id)
        if out is None:
            return HostSlots(capacity=0, reserved=0, used=0)
        return HostSlots(
            capacity=self._capacity[host_id],
            reserved=out[PermitState.RESERVED],
            used=out[PermitState.USED],
        )

    def of_tenant(self, tenant: str) -> int:
        """Return how many slots a tenant's calls hold, on all hosts together."""
        return self._tenants[tenant] if tenant else 0

    def tenants(self) -> dict[str, int]:
        """Return the tenants that have calls, with their numbers."""
        return dict(self._tenants)

    def reserve(self, host_id: HostId, tenant: str = "") -> Permit:
        """Take a free slot for a call of a tenant; empty for none.

        Raises:
            CapacityError: the host has none.
        """
        if not self.slots(host_id).free:
            raise CapacityError(f"no slot is free on host {host_id}")
        permit = self._issue(host_id, tenant)
        self.on_change(host_id)
        return permit

    def adopt(self, host_id: HostId, tenant: str = "") -> Permit:
        """Take a slot for a job that runs there already, even beyond the host's capacity."""
        permit = self._issue(host_id, tenant)
        self.use(permit)
        return permit

    def use(self, permit: Permit) -> None:
        """Turn a reserved slot into a used one."""
        before = permit._change(PermitState.USED)  # noqa: SLF001 - the book owns its permits
        self._count(permit, before, PermitState.USED)

    def release(self, permit: Permit) -> None:
        """Give a slot back.

        Raises:
            InvalidTransitionError: it was given back before.
        """
        before = permit._change(PermitState.RELEASED)  # noqa: SLF001 - the book owns its permits
        self._count(permit, before, None)
        if permit.tenant:
            self._tenants[permit.tenant] -= 1
            if not self._tenants[permit.tenant]:
                del self._tenants[permit.tenant]

    def _issue(self, host_id: HostId, tenant: str) -> Permit:
        self._number += 1
        self._out[host_id][PermitState.RESERVED] += 1
        if tenant:
            self._tenants[tenant] += 1
        return Permit(host_id, self._number, tenant)

    def _count(self, permit: Permit, before: PermitState, after: PermitState | None) -> None:
        out = self._out[permit.host_id]
        out[before] -= 1
        if after is not None:
            out[after] += 1
        self.on_change(permit.host_id)


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What LiveKit is told: FULL, or a load below its limit."""

    full: bool
    load: float


FULL = LoadReport(full=True, load=1.0)


def own_load_share(load: float | None, threshold: float | None) -> float:
    """Return a host's own load as a share of the program's limit, 0 to 1.

    A program without a limit (`threshold` None) has 1 as its limit. 1 means: no more jobs here.
    """
    if load is None or load <= 0:
        return 0.0
    return min(1.0, load / threshold) if threshold else min(1.0, load)


def report_load(capacity: int, free: int, own_share: float, *, accepting: bool) -> LoadReport:
    """Return what to tell LiveKit.

    `LOAD_CEILING` times the larger of the taken share of the slots and the program's own share,
    so that the program can only make it fuller; FULL when no slot is free or none is given out.

    Args:
        capacity, free: slots of all hosts that take jobs.
        own_share: mean of `own_load_share` over these hosts.
        accepting: False while draining.
    """
    if not accepting or not free:
        return FULL
    share = max((capacity - free) / capacity, own_share)
    return LoadReport(full=False, load=round(LOAD_CEILING * share, 4))
