"""A call that waits for an agent, how far it is, and what the end of its job means for it."""

from dataclasses import dataclass
from enum import StrEnum

from voxray.base.ids import JobId
from voxray.dispatcher.origins import CallKey


class CallEnd(StrEnum):
    """What the end of a job means for its call."""

    OVER = "over"
    """It had its agent, or the program wanted none: it is left alone from now on."""
    UNSERVED = "unserved"
    """Its caller is left without an agent, and not by the program's will."""
    FAULT = "fault"
    """The program failed to decide about it: unserved, but not for ever."""
    ASIDE = "aside"
    """It says nothing: a duplicate, or we are leaving."""


class Step(StrEnum):
    """How far a waiting call is."""

    WAITING = "waiting"
    CREATING = "creating"
    """A dispatch is being created for it."""
    EXPECTING = "expecting"
    """The dispatch stands, its offer is on its way."""
    PLACING = "placing"
    """Its job was offered; it holds a slot or is being refused."""


@dataclass(kw_only=True)
class WaitingCall:
    """One call that waits.

    Attributes:
        tenant: whose limit of slots it counts against, or empty.
        since: Unix seconds at which its wait began; the order of the line.
        queued_at: monotonic time from which on a look at its room says whether it still waits.
        retry_at: monotonic time before which it has no claim on a slot.
        dispatch_id: the stand-in that was created for it, if any.
        job_id: the job that is being placed for it, if any.
    """

    key: CallKey
    room: str
    room_sid: str
    tenant: str
    since: float
    queued_at: float
    retry_at: float = 0.0
    step: Step = Step.WAITING
    dispatch_id: str = ""
    job_id: JobId | None = None
    tries: int = 0

    def claims(self, now: float) -> bool:
        """Return whether a slot is to be kept for it."""
        if self.step is Step.WAITING:
            return self.retry_at <= now
        return self.step is not Step.PLACING
