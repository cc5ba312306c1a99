"""Which call a job is for: the dispatch that asked for it, and the participant it attends to.

A dispatch that the reconciler creates stands in for an earlier one that got no job. It says so by
an attribute, in LiveKit's own record, so that a dispatcher that starts anew understands it too.
"""

from dataclasses import dataclass
from typing import NamedTuple

_BY = "@"


class CallKey(NamedTuple):
    """One agent that is wanted in a room.

    Attributes:
        dispatch_id: the dispatch that asked for it first.
        participant: sid of the participant it attends to; empty for a job of the whole room.
    """

    dispatch_id: str
    participant: str


@dataclass(frozen=True, kw_only=True)
class StandIn:
    """What a stand-in dispatch is for.

    Attributes:
        maker: which dispatcher process made it; another one can't know whether it was given up.
    """

    key: CallKey
    room_sid: str
    maker: str = ""


@dataclass(frozen=True, kw_only=True)
class JobOrigin:
    """Where a job comes from.

    Attributes:
        dispatch_id: empty for a simulated job, which stands for no call.
        room_sid: this very room; a later one may have its name.
        participant: sid of the participant of a publisher or participant job, or empty.
        stand_in: what its dispatch stands in for; None for a dispatch that somebody else made.
    """

    dispatch_id: str = ""
    room_sid: str = ""
    participant: str = ""
    stand_in: StandIn | None = None

    @property
    def key(self) -> CallKey | None:
        """The call it is for; None for a job without a dispatch."""
        if not self.dispatch_id:
            return None
        root = self.stand_in.key.dispatch_id if self.stand_in else self.dispatch_id
        return CallKey(root, self.participant)

    @property
    def meant(self) -> bool:
        """Whether it is what its dispatch was created for.

        A stand-in launches a job for every participant that joins, as every dispatch does; and
        when its room was gone by then, LiveKit made a new one of the same name.
        """
        stand_in = self.stand_in
        if stand_in is None:
            return True
        return stand_in.room_sid == self.room_sid and stand_in.key.participant == self.participant


NO_CALL = JobOrigin()
"""The origin of a job that nothing is known of."""


def write_stand_in(stand_in: StandIn) -> str:
    """Return the attribute's value: `<dispatch id> <room sid> [<participant>] [@<maker>]`."""
    key = stand_in.key
    fields = [key.dispatch_id, stand_in.room_sid, key.participant]
    fields.append(_BY + stand_in.maker if stand_in.maker else "")
    return " ".join(filter(None, fields))


def read_stand_in(value: str) -> StandIn | None:
    """Return what an attribute's value says; None for one that is not ours."""
    parts = value.split(" ")
    maker = parts.pop().removeprefix(_BY) if parts[-1].startswith(_BY) else ""
    if not 2 <= len(parts) <= 3 or not all(parts):
        return None
    participant = parts[2] if len(parts) == 3 else ""
    return StandIn(key=CallKey(parts[0], participant), room_sid=parts[1], maker=maker)
