"""Events of rooms whose callers wait for an agent; part of `events.Event`."""

from dataclasses import dataclass
from typing import TypeAlias

from voxray.base.ids import JobId


@dataclass(frozen=True, kw_only=True)
class RoomFound:
    """A caller waits for an agent of ours. `how`: refused (an offer that we had to refuse) or
    survey (LiveKit's record shows a dispatch without a job)."""

    room: str
    how: str


@dataclass(frozen=True, kw_only=True)
class RoomServed:
    """The agent of a waiting call was placed. `seconds` counts from the start of its wait."""

    job_id: JobId
    room: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class RoomGivenUp:
    """A call waits no more, unserved. `reason`: left, elsewhere, rejected."""

    room: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class DispatchMade:
    """A dispatch was created for a waiting call. `outcome`: created, failed, or unanswered
    (created, but LiveKit offered no job of it to us)."""

    room: str
    outcome: str
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class RoomsWaiting:
    """How many calls wait for an agent now."""

    count: int


RoomEvent: TypeAlias = RoomFound | RoomServed | RoomGivenUp | DispatchMade | RoomsWaiting
