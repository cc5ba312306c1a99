"""What LiveKit shows of its rooms, as plain data: the list of rooms, and one room in detail."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from voxray.base.ids import JobId
from voxray.dispatcher.origins import StandIn


@dataclass(frozen=True, kw_only=True)
class RoomListing:
    """A room in the list of all rooms.

    Attributes:
        participants: LiveKit brings this number up to date every 5 s only.
    """

    name: str
    sid: str
    participants: int


@dataclass(frozen=True, kw_only=True)
class JobRecord:
    """A job in a dispatch's record. LiveKit shows it up to 8 s after it was asked for.

    Attributes:
        participant: sid of the participant it attends to, or empty.
        identity: of the agent.
        started_at: Unix seconds.
        ended: whether the record itself says so; it does so only for jobs that were dropped at
            once or terminated with their dispatch, all others stay "running" for ever.
    """

    job_id: JobId
    participant: str = ""
    identity: str = ""
    started_at: float = 0.0
    ended: bool = False


@dataclass(frozen=True, kw_only=True)
class DispatchRecord:
    """A dispatch for our agent. `attributes` are without our own mark."""

    dispatch_id: str
    created_at: float
    metadata: str = field(default="", repr=False)
    attributes: Mapping[str, str] = field(default_factory=dict, repr=False)
    restart_policy: int = 0
    stand_in: StandIn | None = None
    jobs: tuple[JobRecord, ...] = ()

    @property
    def root(self) -> str:
        """The dispatch that asked first."""
        return self.stand_in.key.dispatch_id if self.stand_in else self.dispatch_id


@dataclass(frozen=True, kw_only=True)
class CallerView:
    """A participant who may wait for an agent: no agent, egress, recorder or hidden one.

    Attributes:
        joined_at: Unix seconds.
        publishes: whether it has published a track.
    """

    sid: str
    joined_at: float
    publishes: bool


@dataclass(frozen=True, kw_only=True)
class RoomView:
    """A room in detail.

    Attributes:
        dispatches: those for our agent, oldest first.
        callers, agents: who is there (agents by identity); not asked for, so empty, where no
            dispatch is ours.
    """

    room: str
    sid: str
    dispatches: tuple[DispatchRecord, ...] = ()
    callers: tuple[CallerView, ...] = ()
    agents: frozenset[str] = frozenset()
