"""Which host a job goes to: pure policies over a snapshot of the hosts, and why nothing fits."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from voxray.base.ids import HostId

Policy = Literal["pack", "spread"]
NO_FIT = "no free slot"
"""How every reason of a `NoFit` begins."""


class HostCondition(StrEnum):
    """Whether a host takes jobs, and if not, why."""

    READY = "ready"
    STARTING = "starting"
    DRAINING = "draining"
    SILENT = "silent"
    """Its reports are late: it may be lost."""
    BUSY = "busy"
    """The program's own load is at its limit there: no new job, but a resumed one may go."""


@dataclass(frozen=True, kw_only=True)
class HostView:
    """A host as placement sees it; `taken` and `free` are slots."""

    host_id: HostId
    condition: HostCondition
    taken: int
    free: int


@dataclass(frozen=True, kw_only=True)
class NoFit:
    """Nothing takes the job; `reason` is for the story."""

    reason: str


def choose(
    hosts: Iterable[HostView],
    policy: Policy,
    *,
    exclude: HostId | None = None,
    avoid: HostId | None = None,
    urgent: bool = False,
) -> HostId | NoFit:
    """Choose a host.

    Only hosts that are READY (for an urgent job also BUSY) and have a free slot. `pack` takes the
    one with the most taken slots, so that others stay empty and can go; `spread` the one with the
    fewest. Ties go to more, then fewer, free slots accordingly, then to the lower id. `avoid` is
    taken only when nothing else fits. An urgent job (a resume) is always spread: the jobs of a
    lost host shall not meet on the next one.

    Args:
        exclude: a host that may not have it.
        avoid: the host that the job was lost on.
        urgent: a caller waits in the room already.
    """
    allowed = {HostCondition.READY, HostCondition.BUSY} if urgent else {HostCondition.READY}
    order = _ORDERS["spread" if urgent else policy]
    why: Counter[str] = Counter()
    best: HostView | None = None
    for host in hosts:
        if host.condition not in allowed:
            why[host.condition.value] += 1
        elif not host.free:
            why["full"] += 1
        elif host.host_id == exclude:
            why["excluded"] += 1
        elif best is None or (host.host_id == avoid, order(host)) < (
            best.host_id == avoid,
            order(best),
        ):
            best = host
    if best is not None:
        return best.host_id
    counts = ", ".join(f"{count} {name}" for name, count in sorted(why.items()))
    return NoFit(reason=f"{NO_FIT}: {counts or 'there is no host'}")


def _pack(host: HostView) -> tuple[int, int, HostId]:
    return (-host.taken, host.free, host.host_id)


def _spread(host: HostView) -> tuple[int, int, HostId]:
    return (host.taken, -host.free, host.host_id)


_ORDERS: dict[Policy, Callable[[HostView], tuple[int, int, HostId]]] = {
    "pack": _pack,
    "spread": _spread,
}
