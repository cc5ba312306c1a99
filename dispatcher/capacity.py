"""Slots as permits, and the load that LiveKit is told.

A permit is one call's place on one host. It is reserved at the offer, used from the start of the
job, and released exactly once.
"""

from collections.abc import Iterable
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

    __slots__ = ("_state", "host_id", "number")

    def __init__(self, host_id: HostId, number: int) -> None:
        self.host_id = host_id
        self.number = number
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


@dataclass(frozen=True, kw_only=True)
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
    """Who holds which slot of which host."""

    def __init__(self) -> None:
        self._capacity: dict[HostId, int] = {}
        self._out: dict[HostId, dict[PermitState, int]] = {}
        self._number = 0

    def add_host(self, host_id: HostId, capacity: int) -> None:
        """Open a host's slots, or change how many it has."""
        self._capacity[host_id] = capacity
        self._out.setdefault(host_id, {PermitState.RESERVED: 0, PermitState.USED: 0})

    def remove_host(self, host_id: HostId) -> None:
        """Close a host's slots, all of them released before.

        Raises:
            InvalidTransitionError: a permit of the host is still out.
        """
        if self._capacity.pop(host_id, None) is None:
            return
        if any(self._out.pop(host_id).values()):
            raise InvalidTransitionError(host_id, "a host was removed with permits still out")

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

    def reserve(self, host_id: HostId) -> Permit:
        """Take a free slot.

        Raises:
            CapacityError: the host has none.
        """
        if not self.slots(host_id).free:
            raise CapacityError(f"no slot is free on host {host_id}")
        return self._issue(host_id)

    def adopt(self, host_id: HostId) -> Permit:
        """Take a slot for a job that runs there already, even beyond the host's capacity."""
        permit = self._issue(host_id)
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

    def _issue(self, host_id: HostId) -> Permit:
        self._number += 1
        self._out[host_id][PermitState.RESERVED] += 1
        return Permit(host_id, self._number)

    def _count(self, permit: Permit, before: PermitState, after: PermitState | None) -> None:
        out = self._out[permit.host_id]
        out[before] -= 1
        if after is not None:
            out[after] += 1


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What LiveKit is told: FULL, or a load below its limit."""

    full: bool
    load: float


FULL = LoadReport(full=True, load=1.0)


def total(slots: Iterable[HostSlots]) -> HostSlots:
    """Add up slots."""
    capacity = reserved = used = 0
    for each in slots:
        capacity += each.capacity
        reserved += each.reserved
        used += each.used
    return HostSlots(capacity=capacity, reserved=reserved, used=used)


def own_load_share(load: float | None, threshold: float | None) -> float:
    """Return a host's own load as a share of the program's limit, 0 to 1.

    A program without a limit (`threshold` None) has 1 as its limit. 1 means: no more jobs here.
    """
    if load is None or load <= 0:
        return 0.0
    return min(1.0, load / threshold) if threshold else min(1.0, load)


def report_load(slots: HostSlots, own_share: float, *, accepting: bool) -> LoadReport:
    """Return what to tell LiveKit.

    `LOAD_CEILING` times the larger of the taken share of the slots and the program's own share,
    so that the program can only make it fuller; FULL when no slot is free or none is given out.

    Args:
        slots: of all hosts that take jobs.
        own_share: mean of `own_load_share` over these hosts.
        accepting: False while draining.
    """
    if not accepting or not slots.free:
        return FULL
    share = max(slots.taken / slots.capacity, own_share)
    return LoadReport(full=False, load=round(LOAD_CEILING * share, 4))
