"""What the dispatcher shows of itself: plain, frozen, and safe to hand to another thread."""

from dataclasses import dataclass

from voxray.base.ids import HostId, JobId, ReplicaId
from voxray.dispatcher.hosts import HostRecord
from voxray.dispatcher.jobs import Job
from voxray.dispatcher.placement import HostCondition
from voxray.dispatcher.replica_records import ReplicaRecord, ReplicaState
from voxray.dispatcher.replicas import ReplicaSet
from voxray.dispatcher.state import CoreState


@dataclass(frozen=True, kw_only=True)
class JobView:
    """A live job. `seconds` counts from its offer."""

    job_id: JobId
    room: str
    state: str
    generation: int
    host_id: HostId | None
    seconds: float


@dataclass(frozen=True, kw_only=True)
class HostView:
    """A host. `state`: starting, ready, draining, silent, busy or
    outdated (`HostCondition`)."""

    host_id: HostId
    pid: int | None
    node: str
    address: str
    metrics: str
    state: str
    capacity: int
    reserved: int
    used: int
    loop_lag_s: float
    jobs: tuple[JobView, ...]


@dataclass(frozen=True, kw_only=True)
class ReplicaView:
    """A replica. `reason` says why one that is not ready is not."""

    replica_id: ReplicaId
    group: str
    engines: tuple[str, ...]
    pid: int | None
    node: str
    address: str
    metrics: str
    device: str
    streams: int
    queue_s: float
    state: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class GroupView:
    """A replica group.

    Attributes:
        wanted: replicas that it should have now, by its load.
        least, most: the bounds of that.
        reason: while one is missing, what it waits for or why the last one failed.
    """

    group: str
    wanted: int
    ready: int
    least: int
    most: int
    streams: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Sums over the hosts that exist, and what LiveKit is told."""

    jobs: int
    waiting_jobs: int
    waiting_rooms: int
    held_offers: int
    slots: int
    reserved: int
    used: int
    hosts: int
    ready_hosts: int
    idle_hosts: int
    full: bool
    load: float
    stale_reports: int


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The dispatcher at one moment."""

    stage: str
    registered: bool
    worker_id: str
    hosts: tuple[HostView, ...]
    replicas: tuple[ReplicaView, ...]
    groups: tuple[GroupView, ...]
    unplaced_jobs: tuple[JobView, ...]
    totals: Totals


def build_snapshot(state: CoreState, replicas: ReplicaSet, totals: Totals) -> Snapshot:
    """Put a snapshot together."""
    return Snapshot(
        stage=state.stage.value,
        registered=state.registered,
        worker_id=state.worker_id,
        hosts=tuple(_host(state, host) for host in state.hosts),
        replicas=tuple(_replica(replicas, each) for each in replicas.records()),
        groups=_groups(replicas),
        unplaced_jobs=tuple(_job(state, job) for job in state.jobs if job.host_id is None),
        totals=totals,
    )


def _job(state: CoreState, job: Job) -> JobView:
    return JobView(
        job_id=job.job_id,
        room=job.room,
        state=job.state.value,
        generation=job.generation,
        host_id=job.host_id,
        seconds=state.now - job.offered_at,
    )


def _host(state: CoreState, host: HostRecord) -> HostView:
    slots = state.slots.slots(host.host_id)
    endpoint = host.endpoint
    return HostView(
        host_id=host.host_id,
        pid=endpoint.pid if endpoint else None,
        node=endpoint.node if endpoint else "",
        address=endpoint.address if endpoint else "",
        metrics=endpoint.metrics if endpoint else "",
        state=state.condition(host).value,
        capacity=slots.capacity,
        reserved=slots.reserved,
        used=slots.used,
        loop_lag_s=host.loop_lag_s,
        jobs=tuple(_job(state, job) for job in state.jobs.on_host(host.host_id)),
    )


def _replica(replicas: ReplicaSet, replica: ReplicaRecord) -> ReplicaView:
    endpoint = replica.endpoint
    return ReplicaView(
        replica_id=replica.replica_id,
        group=replica.group,
        engines=replica.engines,
        pid=endpoint.pid if endpoint else None,
        node=endpoint.node if endpoint else "",
        address=endpoint.address if endpoint else "",
        metrics=endpoint.metrics if endpoint else "",
        device=replica.device,
        streams=replica.streams,
        queue_s=replica.queue_s,
        state=replica.state.value,
        reason=_why_not_ready(replicas, replica),
    )


def _why_not_ready(replicas: ReplicaSet, replica: ReplicaRecord) -> str:
    match replica.state:
        case ReplicaState.STARTING:
            failed = replicas.failure(replica.group)
            return replica.waiting or failed or "its engines are being loaded"
        case ReplicaState.DRAINING:
            return "its streams move to others"
        case _:
            return ""


def _groups(replicas: ReplicaSet) -> tuple[GroupView, ...]:
    views = []
    for group in replicas.groups():
        ours = [each for each in replicas.records() if each.group == group.name]
        ready = sum(each.state is ReplicaState.READY for each in ours)
        wanted = replicas.wanted(group.name)
        view = GroupView(
            group=group.name,
            wanted=wanted,
            ready=ready,
            least=group.replicas,
            most=group.most,
            streams=sum(each.streams for each in ours),
            reason=replicas.reason(group.name) if ready < wanted else "",
        )
        views.append(view)
    return tuple(views)


def count_totals(state: CoreState, *, full: bool, load: float) -> Totals:
    """Add up what there is."""
    index, able = state.index, (HostCondition.READY, HostCondition.BUSY)
    return Totals(
        jobs=len(state.jobs),
        waiting_jobs=len(state.waiting),
        waiting_rooms=state.line.rooms(),
        held_offers=len(state.held),
        slots=index.all.capacity,
        reserved=index.all.reserved,
        used=index.all.used,
        hosts=index.all.hosts,
        ready_hosts=sum(index.count(each) for each in able),
        idle_hosts=sum(index.empty(each) for each in able),
        full=full,
        load=load,
        stale_reports=state.stale_reports,
    )
