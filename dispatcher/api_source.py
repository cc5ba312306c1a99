"""What the HTTP API shows of the dispatcher, taken from its parts at the moment of the question."""

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

from voxray.base.errors import ConfigError
from voxray.base.ids import JobId
from voxray.dispatcher.core import DispatcherCore
from voxray.dispatcher.fleet_runner import FleetRunner
from voxray.dispatcher.health import ScrapeTarget, WorkerSummary
from voxray.dispatcher.job_listing import JobSummary
from voxray.dispatcher.jobs import StoryEntry
from voxray.dispatcher.peers import Question
from voxray.dispatcher.phases import Phase, PhaseBoard
from voxray.dispatcher.status import GroupView, HostView, JobView, ReplicaView, Snapshot
from voxray.observability.exporter import render
from voxray.observability.metrics import MetricsSink


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Which dispatcher answers.

    Attributes:
        app: the app's name.
        node: Ray node id.
        index: which of the app's dispatchers.
        api: `host:port` of the API, known once it listens.
    """

    app: str
    node: str
    index: int
    api: Callable[[], str]


class ApiSource:
    """Implements `health.DispatcherSource` over the dispatcher's parts."""

    def __init__(
        self,
        identity: Identity,
        core: DispatcherCore,
        runner: FleetRunner,
        metrics: MetricsSink,
        phases: PhaseBoard,
    ) -> None:
        self._identity = identity
        self._core = core
        self._runner = runner
        self._metrics = metrics
        self._phases = phases
        self._drain: Callable[[float | None], None] | None = None
        self._simulate: Callable[[str, str], Awaitable[JobId]] | None = None

    def on_drain(self, drain: Callable[[float | None], None]) -> None:
        """Say what a request to drain does."""
        self._drain = drain

    def on_simulate(self, simulate: Callable[[str, str], Awaitable[JobId]]) -> None:
        """Say what a request for a simulated job does, with room and identity."""
        self._simulate = simulate

    def unhealthy(self) -> str:
        """Return why this process should be restarted, or an empty string."""
        error = self._phases.error
        return str(error) if error is not None else ""

    def unready(self) -> str:
        """Return why no job would be taken now, or an empty string."""
        if self._phases.phase is not Phase.RUNNING:
            return f"the app is {self._phases.phase.value}"
        if not self._core.registered:
            return "not registered at LiveKit"
        if not self._core.totals().ready_hosts:
            return "no session host is ready"
        return ""

    def worker(self) -> WorkerSummary:
        """Return what `/worker` tells."""
        totals, program = self._core.totals(), self._core.program
        return WorkerSummary(
            agent_name=program.agent_name,
            worker_type=program.worker_type,
            active_jobs=totals.jobs,
            sdk_version=program.sdk_version,
            load=totals.load,
        )

    def metrics(self, accept: str) -> tuple[bytes, str]:
        """Return the dispatcher's own metrics page and its content type."""
        return render(self._metrics.registry, accept)

    def scrape_targets(self) -> Sequence[ScrapeTarget]:
        """Return the metrics pages of all live processes of the app."""
        app = self._identity.app
        dispatcher = ScrapeTarget(
            address=self._identity.api(),
            labels={
                "app": app,
                "role": "dispatcher",
                "dispatcher": str(self._identity.index),
                "node": self._identity.node,
            },
        )
        hosts = [
            ScrapeTarget(
                address=endpoint.metrics,
                labels={"app": app, "role": "host", "host_id": host_id, "node": endpoint.node},
            )
            for host_id, endpoint in self._runner.hosts.items()
        ]
        replicas = [
            ScrapeTarget(
                address=endpoint.metrics,
                labels={
                    "app": app,
                    "role": "replica",
                    "replica_id": replica_id,
                    "node": endpoint.node,
                },
            )
            for replica_id, endpoint in self._runner.replicas.items()
        ]
        return [dispatcher, *hosts, *replicas]

    def status(self) -> Mapping[str, Any]:
        """Return what `/status` answers (docs/status.md)."""
        snapshot = self._core.snapshot()
        return {
            "dispatchers": [self._dispatcher(snapshot)],
            "hosts": [_host(host) for host in snapshot.hosts],
            "replicas": [_replica(replica) for replica in snapshot.replicas],
            "groups": [_group(group) for group in snapshot.groups],
            "waiting_jobs": [_job(job) for job in snapshot.unplaced_jobs],
        }

    def story(self, job_id: JobId) -> Sequence[Mapping[str, Any]] | None:
        """Return the story of a job, oldest entry first, or None for an unknown one."""
        entries = self._core.story(job_id)
        return [_entry(entry) for entry in entries] if entries else None

    def jobs(self) -> Sequence[Mapping[str, Any]]:
        """Return the live jobs, and the last that ended (docs/status.md)."""
        return [_summary(job) for job in self._core.jobs()]

    async def simulate(self, room: str, identity: str) -> JobId:
        """Begin a simulated job; return its id.

        Raises:
            ConfigError: the app is not ready for jobs.
            ConnectionFailedError: the room can't be opened at LiveKit.
        """
        if self._simulate is None or self._phases.phase is not Phase.RUNNING:
            raise ConfigError(f"the app is {self._phases.phase.value} and takes no jobs")
        return await self._simulate(room, identity)

    def answer(self, question: Question, argument: object) -> Any:
        """Answer another dispatcher of the app, about this one alone, as plain data."""
        match question:
            case Question.STATUS:
                return self.status()
            case Question.TARGETS:
                return [target.to_json() for target in self.scrape_targets()]
            case Question.STORY:
                return self.story(JobId(str(argument)))
            case Question.JOBS:
                return self.jobs()
            case Question.DRAIN:
                self.drain(argument if isinstance(argument, float) else None)
                return None
            case _:
                assert_never(question)

    def drain(self, timeout_s: float | None) -> None:
        """Begin to drain; None waits as long as the settings say."""
        if self._drain is not None:
            self._drain(timeout_s)

    def _dispatcher(self, snapshot: Snapshot) -> dict[str, Any]:
        totals = snapshot.totals
        return {
            "app": self._identity.app,
            "index": self._identity.index,
            "pid": os.getpid(),
            "node": self._identity.node,
            "state": self._phases.phase.value,
            "registered": snapshot.registered,
            "worker_id": snapshot.worker_id,
            "slots": totals.slots,
            "used": totals.used,
            "reserved": totals.reserved,
            "load": totals.load,
            "waiting_rooms": totals.waiting_rooms,
        }


def _host(host: HostView) -> dict[str, Any]:
    return {
        "id": host.host_id,
        "pid": host.pid,
        "node": host.node,
        "state": host.state,
        "capacity": host.capacity,
        "loop_lag_s": host.loop_lag_s,
        "metrics": host.metrics,
        "jobs": [_job(job) for job in host.jobs],
    }


def _job(job: JobView) -> dict[str, Any]:
    return {
        "id": job.job_id,
        "room": job.room,
        "state": job.state,
        "generation": job.generation,
        "seconds": round(job.seconds, 3),
    }


def _summary(job: JobSummary) -> dict[str, Any]:
    return {
        "id": job.job_id,
        "room": job.room,
        "state": job.state.value,
        "outcome": job.outcome,
        "generation": job.generation,
        "host_id": job.host_id,
        "seconds": round(job.seconds, 3),
        "cause": job.cause,
    }


def _group(group: GroupView) -> dict[str, Any]:
    return {
        "name": group.group,
        "ready": group.ready,
        "wanted": group.wanted,
        "replicas": group.least,
        "max_replicas": group.most,
        "streams": group.streams,
        "reason": group.reason,
    }


def _replica(replica: ReplicaView) -> dict[str, Any]:
    return {
        "id": replica.replica_id,
        "group": replica.group,
        "engines": list(replica.engines),
        "pid": replica.pid,
        "node": replica.node,
        "state": replica.state,
        "reason": replica.reason,
        "device": replica.device,
        "streams": replica.streams,
        "queue_s": replica.queue_s,
        "metrics": replica.metrics,
    }


def _entry(entry: StoryEntry) -> dict[str, Any]:
    return {
        "at": entry.at,
        "from_state": entry.from_state.value if entry.from_state is not None else None,
        "to_state": entry.to_state.value,
        "cause": entry.cause,
        "host_id": entry.host_id,
        "generation": entry.generation,
    }
