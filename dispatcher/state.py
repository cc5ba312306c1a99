"""What the parts of the core share: the records, the time of this step, the commands so far.

One object, owned by `core.DispatcherCore`; its parts get it whole and change it only inside a
step, so that nothing is ever seen half done.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from heapq import heappop, heappush

from voxray.actors.contracts import ProgramInfo
from voxray.base.ids import HostId, JobId
from voxray.base.settings import HostSettings
from voxray.base.timing import Clock
from voxray.dispatcher.capacity import SlotBook, own_load_share
from voxray.dispatcher.commands import Command, EmitEvent
from voxray.dispatcher.demand import Demand
from voxray.dispatcher.host_index import HostIndex
from voxray.dispatcher.hosts import HostRecord, HostState, HostTable
from voxray.dispatcher.job_book import JobBook
from voxray.dispatcher.placement import HostCondition, HostView
from voxray.dispatcher.waiting_line import WaitingLine
from voxray.observability.events import Event

_OWN_LOAD_UNIT = 1_000_000_000
"""Own loads are added up as whole numbers: sums of floats would drift from the truth."""


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
        line: calls that wait for an agent and have no job here.
        fleet_known: whether we know what an earlier dispatcher left; nothing starts before.
        peers_over: whether the app's other dispatchers have no calls any more; without any, or
            where they don't need us, always.
        dirty: whether this step changed something that others may have waited for.
        patient: whether what it changed may have its consequences a moment later.
        wake_ups: heap of times at which a step is due, for whatever waits for time alone.
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
    demand: Demand = field(default_factory=Demand)
    waiting: dict[JobId, None] = field(default_factory=dict)
    held: dict[JobId, None] = field(default_factory=dict)
    line: WaitingLine = field(default_factory=WaitingLine)
    stage: Stage = Stage.SERVING
    worker_id: str = ""
    registered: bool = False
    fleet_known: bool = False
    peers_over: bool = True
    dirty: bool = False
    patient: bool = False
    wake_ups: list[float] = field(default_factory=list)
    stale_reports: int = 0
    commands: list[Command] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Keep the index true to every change of hosts and slots."""
        self.index = HostIndex(self.settings.placement)
        self.hosts.on_change = self.refresh
        self.slots.on_change = self._slots_changed

    @property
    def accepting(self) -> bool:
        """Whether new jobs are taken."""
        return self.stage is Stage.SERVING

    @property
    def adopted(self) -> bool:
        """Whether it is known what the hosts run that an earlier dispatcher left."""
        return self.fleet_known and not any(
            host.found and host.state is HostState.STARTING for host in self.hosts
        )

    def begin(self) -> None:
        """Start a step: fix its time; `catch_up` lets what time changed have its effect."""
        self.now = self.clock.monotonic()
        self.wall = self.clock.wall()
        self.dirty = True
        self.patient = False

    def catch_up(self) -> bool:
        """Let hosts fall silent and waits be over; return whether anything was due."""
        silent = self.hosts.due(self.now)
        for host in silent:
            self.refresh(host)
        woken = False
        while self.wake_ups and self.wake_ups[0] <= self.now:
            heappop(self.wake_ups)
            woken = True
        return woken or bool(silent)

    def wake_at(self, at: float) -> None:
        """Ask for a step at a time, if it is still to come."""
        if at > self.now:
            heappush(self.wake_ups, at)

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

    def condition(self, host: HostRecord) -> HostCondition:
        """Return whether a host takes jobs."""
        if host.state is HostState.STARTING:
            return HostCondition.STARTING
        if host.state is HostState.STOPPING:
            return HostCondition.DRAINING
        if host.spent:
            return HostCondition.SPENT
        if not self.current(host):
            return HostCondition.OUTDATED
        if self.hosts.silent(host, self.now):
            return HostCondition.SILENT
        own_load = self._own_share(host)
        return HostCondition.BUSY if own_load >= 1 else HostCondition.READY

    def current(self, host: HostRecord) -> bool:
        """Return whether a host runs the current version of the program, as far as is known."""
        return host.version is None or host.version == self.program.version

    def free_slots(self) -> int:
        """Return how many slots a new job could have."""
        return self.index.ready.free

    def view(self, host: HostRecord) -> HostView:
        """Return a host as placement sees it."""
        own_load = self._own_share(host)
        return HostView(
            host_id=host.host_id,
            condition=self.condition(host),
            slots=self.slots.slots(host.host_id),
            own_load=round(own_load * _OWN_LOAD_UNIT),
            empty_since=host.empty_since,
            current=self.current(host),
        )

    def refresh(self, host: HostRecord) -> None:
        """Bring the index up to date with a host: it changed, came or went."""
        if host.host_id in self.hosts:
            self.index.put(self.view(host))
        else:
            self.index.remove(host.host_id)

    def own_load(self) -> float:
        """Return the mean of the READY hosts' own loads, as shares of the program's limit."""
        ready = self.index.ready
        return ready.own_load / ready.hosts / _OWN_LOAD_UNIT if ready.hosts else 0.0

    def _own_share(self, host: HostRecord) -> float:
        if not self.settings.load_limit:
            return 0.0
        return own_load_share(host.load, self.program.load_threshold)

    def _slots_changed(self, host_id: HostId) -> None:
        self.hosts.occupied(host_id, self.slots.slots(host_id).taken, self.now)
