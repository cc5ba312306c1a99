"""All hosts sorted for placement: the next one for a job, and every sum, without a look at each.

A change of one host costs the logarithm of their number; a choice and a sum cost the same for ten
hosts and for ten thousand.
"""

from collections import Counter
from dataclasses import dataclass

from voxray.base.ids import HostId
from voxray.dispatcher.placement import NO_FIT, HostCondition, HostView, NoFit, Policy
from voxray.dispatcher.ranked import Ranked

_READY, _BUSY = HostCondition.READY, HostCondition.BUSY


@dataclass(kw_only=True)
class HostSums:
    """Sums over some hosts. `own_load` as in `HostView`."""

    hosts: int = 0
    capacity: int = 0
    reserved: int = 0
    used: int = 0
    free: int = 0
    own_load: int = 0

    def add(self, view: HostView, sign: int) -> None:
        """Add a host (`sign` 1), or take it away again (-1)."""
        slots = view.slots
        self.hosts += sign
        self.capacity += sign * slots.capacity
        self.reserved += sign * slots.reserved
        self.used += sign * slots.used
        self.free += sign * slots.free
        self.own_load += sign * view.own_load


class HostIndex:
    """The hosts as placement sees them, by what is asked about them.

    Args:
        policy: how new jobs are placed. `pack` takes the host with the most taken slots, so that
            others stay empty and can go; `spread` the one with the fewest. Ties go to fewer, then
            more, free slots accordingly, then to the lower id.

    Attributes:
        all: sums over all hosts.
        ready: sums over the READY ones.
    """

    def __init__(self, policy: Policy) -> None:
        self.all = HostSums()
        self.ready = HostSums()
        self._policy = policy
        self._views: dict[HostId, HostView] = {}
        self._counts: Counter[HostCondition] = Counter()
        self._full: Counter[HostCondition] = Counter()
        self._leaving = 0
        self._packed: Ranked[HostId, tuple[int, int]] = Ranked()
        self._spread: dict[HostCondition, Ranked[HostId, tuple[int, int]]] = {
            _READY: Ranked(),
            _BUSY: Ranked(),
        }
        self._empty: dict[HostCondition, Ranked[HostId, float]] = {
            each: Ranked() for each in HostCondition
        }

    def put(self, view: HostView) -> None:
        """Take a host in, or what became of it."""
        before = self._views.get(view.host_id)
        if before == view:
            return
        if before is not None:
            self._count(before, -1)
            if before.condition is not view.condition:
                self._unlist(before)
        self._views[view.host_id] = view
        self._count(view, 1)
        self._list(view)

    def remove(self, host_id: HostId) -> None:
        """Let a host go, if it is known."""
        view = self._views.pop(host_id, None)
        if view is not None:
            self._count(view, -1)
            self._unlist(view)

    def count(self, condition: HostCondition) -> int:
        """Return how many hosts are in a condition."""
        return self._counts[condition]

    def others(self) -> int:
        """Return how many hosts of the current version exist and take no new job."""
        unable = {*HostCondition} - {_READY, HostCondition.STARTING, HostCondition.OUTDATED}
        return sum(self._counts[each] for each in unable) - self._leaving

    def empty(self, condition: HostCondition) -> int:
        """Return how many hosts of a condition hold no job."""
        return len(self._empty[condition])

    def longest_empty(
        self, condition: HostCondition, count: int
    ) -> tuple[tuple[float, HostId], ...]:
        """Return up to `count` empty hosts of a condition with the time since which they are."""
        return tuple(self._empty[condition].lowest(count))

    def choose(
        self, *, exclude: HostId | None = None, avoid: HostId | None = None, urgent: bool = False
    ) -> HostId | NoFit:
        """Choose a host for a job: READY (for an urgent job also BUSY) and with a free slot.

        An urgent job (a resume) is always spread: the jobs of a lost host shall not meet on the
        next one.

        Args:
            exclude: a host that may not have it.
            avoid: the host that the job was lost on, taken only when nothing else fits.
            urgent: a caller waits in the room already.
        """
        skip = () if exclude is None and avoid is None else (exclude, avoid)
        if not urgent:
            order = self._packed if self._policy == "pack" else self._spread[_READY]
            found = order.first(skip)
        else:
            each = (self._spread[_READY].first(skip), self._spread[_BUSY].first(skip))
            found = min((first for first in each if first is not None), default=None)
        if found is not None:
            return found[1]
        if avoid is not None and avoid != exclude and self._fits(avoid, urgent=urgent):
            return avoid
        return NoFit(reason=self._why(exclude, urgent=urgent))

    def _fits(self, host_id: HostId, *, urgent: bool) -> bool:
        view = self._views.get(host_id)
        if view is None or not view.slots.free:
            return False
        return view.condition is _READY or (urgent and view.condition is _BUSY)

    def _why(self, exclude: HostId | None, *, urgent: bool) -> str:
        allowed = (_READY, _BUSY) if urgent else (_READY,)
        why = {each.value: self._counts[each] for each in HostCondition if each not in allowed}
        why["full"] = sum(self._full[each] for each in allowed)
        why["excluded"] = int(exclude is not None and self._fits(exclude, urgent=urgent))
        counts = ", ".join(f"{count} {name}" for name, count in sorted(why.items()) if count)
        return f"{NO_FIT}: {counts or 'there is no host'}"

    def _count(self, view: HostView, sign: int) -> None:
        condition = view.condition
        self._counts[condition] += sign
        if not view.slots.free:
            self._full[condition] += sign
        if condition is HostCondition.DRAINING and not view.current:
            self._leaving += sign
        self.all.add(view, sign)
        if condition is _READY:
            self.ready.add(view, sign)

    def _list(self, view: HostView) -> None:
        host_id, slots = view.host_id, view.slots
        if (spread := self._spread.get(view.condition)) is not None:
            if slots.free:
                spread.put(host_id, (slots.taken, -slots.free))
            else:
                spread.drop(host_id)
        if view.condition is _READY:
            if slots.free:
                self._packed.put(host_id, (-slots.taken, slots.free))
            else:
                self._packed.drop(host_id)
        if view.empty_since is not None:
            self._empty[view.condition].put(host_id, view.empty_since)
        else:
            self._empty[view.condition].drop(host_id)

    def _unlist(self, view: HostView) -> None:
        self._packed.drop(view.host_id)
        if (spread := self._spread.get(view.condition)) is not None:
            spread.drop(view.host_id)
        self._empty[view.condition].drop(view.host_id)
