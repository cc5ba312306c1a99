"""LiveKit's answers to the reconciler's questions and orders; part of `inputs.Input`."""

from dataclasses import dataclass
from typing import TypeAlias

from voxray.dispatcher.origins import CallKey
from voxray.dispatcher.room_views import RoomListing, RoomView


@dataclass(frozen=True, kw_only=True)
class RoomsListed:
    """The answer to a `ListRooms`; None if LiveKit could not be asked."""

    rooms: tuple[RoomListing, ...] | None


@dataclass(frozen=True, kw_only=True)
class RoomViewed:
    """The answer to a `ViewRoom`.

    Attributes:
        view: None if LiveKit could not be asked.
        gone: there is no such room.
    """

    room: str
    view: RoomView | None
    gone: bool = False


@dataclass(frozen=True, kw_only=True)
class DispatchCreated:
    """The answer to a `CreateDispatch`.

    Attributes:
        dispatch_id: empty if it failed, or if it is not known whether it did.
        reason: why it failed.
    """

    key: CallKey
    room: str
    dispatch_id: str
    reason: str = ""


SurveyInput: TypeAlias = RoomsListed | RoomViewed | DispatchCreated
