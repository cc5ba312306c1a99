"""What placement knows of a host, and how it says that nothing fits."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from voxray.base.ids import HostId
from voxray.dispatcher.capacity import HostSlots

Policy = Literal["pack", "spread"]
NO_FIT = "no free slot"
"""How every reason of a `NoFit` for want of a host begins."""


class HostCondition(StrEnum):
    """Whether a host takes jobs, and if not, why."""

    READY = "ready"
    STARTING = "starting"
    DRAINING = "draining"
    SILENT = "silent"
    """Its reports are late: it may be lost."""
    BUSY = "busy"
    """The program's own load is at its limit there: no new job, but a resumed one may go."""
    SPENT = "spent"
    """It takes one call in its life, and that one is over: it ends."""
    OUTDATED = "outdated"
    """It runs another version of the program than the current one: it ends with its last call."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HostView:
    """A host as placement sees it.

    Attributes:
        own_load: the program's own load there, in billionths of its limit.
        empty_since: monotonic seconds; None while it holds a job.
        current: whether it runs the current version of the program.
    """

    host_id: HostId
    condition: HostCondition
    slots: HostSlots
    own_load: int = 0
    empty_since: float | None = None
    current: bool = True


@dataclass(frozen=True, kw_only=True)
class NoFit:
    """Nothing takes the job; `reason` is for the story.

    Attributes:
        tenant_limit: the job's tenant has all the calls that it may have; no host could help.
    """

    reason: str
    tenant_limit: bool = False
