"""What the parts of the core share: the records, the time of this step, the commands so far.

One object, owned by `core.DispatcherCore`; its parts get it whole and change it only inside a
step, so that nothing is ever seen half done.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from voxray.actors.contracts import ProgramInfo
from voxray.base.ids import JobId
from voxray.base.settings import HostSettings
from voxray.base.timing import Clock
from voxray.dispatcher.capacity import SlotBook, own_load_share
from voxray.dispatcher.commands import Command, EmitEvent
from voxray.dispatcher.hosts import HostRecord, HostState, HostTable
from voxray.dispatcher.jobs import JobBook
from voxray.dispatcher.placement import HostCondition, HostView
from voxray.observability.events import Event


class Stage(StrEnum):
    """The dispatcher's own life. Offers are taken while SERVING only."""

    SERVING = "serving"
    DRAINING = "draining"
    STOPPING_JOBS = "stopping_jobs"
    STOPPING_FLEET = "stopping_fleet"
    OVER = "over"


@dataclass(kw_only=True)
class CoreState:
    """Everything that a step may read and change.

    Attributes:
        now, wall: monotonic and Unix seconds of this step.
        waiting: jobs without a slot that LiveKit has assigned to us, in their order.
        held: offers kept back until a starting host is ready, in their order.
        fleet_known: whether we know what an earlier dispatcher left; nothing starts before.
        dirty: whether this step changed something that others may have waited for.
        stale_reports: reports of older generations, former owners and lost hosts.
    """

    settings: HostSettings
    program: ProgramInfo
    clock: Clock
    now: float
    wall: float
    hosts: HostTable
    slots: SlotBook = field(default_factory=SlotBook)
    jobs: JobBook = field(default_factory=JobBook)
    waiting: dict[JobId, None] = field(default_factory=dict)
    held: dict[JobId, None] = field(default_factory=dict)
    stage: Stage = Stage.SERVING
    worker_id: str = ""
    registered: bool = False
    fleet_known: bool = False
    dirty: bool = False
    stale_reports: int = 0
    commands: list[Command] = field(default_factory=list)

    @property
    def accepting(self) -> bool:
        """Whether new jobs are taken."""
        return self.stage is Stage.SERVING

    def begin(self) -> None:
        """Start a step: fix its time."""
        self.now = self.clock.monotonic()
        self.wall = self.clock.wall()
        self.dirty = True

    def take_commands(self) -> list[Command]:
        """End a step: hand out its commands."""
        commands, self.commands = self.commands, []
        return commands

    def send(self, command: Command) -> None:
        """Add a command to this step."""
        self.commands.append(command)

    def emit(self, event: Event) -> None:
        """Add an event to this step."""
        self.commands.append(EmitEvent(event=event))

    def own_share(self, host: HostRecord) -> float:
        """Return a host's own load as a share of the program's limit."""
        return own_load_share(host.load, self.program.load_threshold)

    def condition(self, host: HostRecord) -> HostCondition:
        """Return whether a host takes jobs."""
        if host.state is HostState.STARTING:
            return HostCondition.STARTING
        if host.state is HostState.STOPPING:
            return HostCondition.DRAINING
        if self.hosts.silent(host, self.now):
            return HostCondition.SILENT
        return HostCondition.BUSY if self.own_share(host) >= 1 else HostCondition.READY

    def view(self, host: HostRecord) -> HostView:
        """Return a host as placement sees it."""
        slots = self.slots.slots(host.host_id)
        return HostView(
            host_id=host.host_id,
            condition=self.condition(host),
            taken=slots.taken,
            free=slots.free,
        )
