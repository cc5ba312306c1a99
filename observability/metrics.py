"""The catalogue of every Prometheus metric, and the sink that fills it from events.

Seconds everywhere; no label ever holds a job, a room, an identity or a process id. The page
`docs/metrics.md` is made from this module (`scripts/gen_metrics_docs.py`).
"""

from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from voxray.observability import events as ev

# Buckets in seconds (see docs/metrics.md for why each range).
TURN_BUCKETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1, 1.25, 1.5, 2, 3, 5, 10)
STAGE_BUCKETS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 1.5, 2.5, 5)
DISPATCH_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 7.5)
GAP_BUCKETS = (0.1, 0.25, 0.5, 1, 1.5, 2, 3, 5, 10)
INFERENCE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64)
START_BUCKETS = (0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64)
SIZE_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128)
LAG_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


@dataclass(frozen=True, kw_only=True)
class MetricSpec:
    """One metric of the catalogue.

    Attributes:
        name: full name, `_total` included for counters.
        kind: how it behaves.
        help: what it says, in one sentence.
        labels: label names.
        buckets: upper bounds, for histograms.
        role: which process has it.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    role: Literal["dispatcher", "host", "replica", "any"] = "dispatcher"


CATALOGUE: tuple[MetricSpec, ...] = (
    MetricSpec(
        name="voxray_worker_registered",
        kind="gauge",
        help="1 while the dispatcher is registered at LiveKit.",
    ),
    MetricSpec(
        name="voxray_worker_registrations_total",
        kind="counter",
        help="Registrations at LiveKit.",
        labels=("kind",),
    ),
    MetricSpec(
        name="voxray_worker_disconnects_total",
        kind="counter",
        help="Times the websocket to LiveKit broke.",
    ),
    MetricSpec(name="voxray_job_offers_total", kind="counter", help="Jobs that LiveKit offered."),
    MetricSpec(
        name="voxray_job_answers_total",
        kind="counter",
        help="Answers to offers.",
        labels=("outcome",),
    ),
    MetricSpec(
        name="voxray_job_answer_seconds",
        kind="histogram",
        help="Offer received to answer handed to the websocket.",
        buckets=DISPATCH_BUCKETS,
    ),
    MetricSpec(
        name="voxray_job_placements_total",
        kind="counter",
        help="Placements of jobs on hosts.",
        labels=("cause",),
    ),
    MetricSpec(
        name="voxray_job_start_seconds",
        kind="histogram",
        help="Offer (or loss) to the agent's audio track being published.",
        labels=("cause",),
        buckets=DISPATCH_BUCKETS,
    ),
    MetricSpec(
        name="voxray_jobs_ended_total",
        kind="counter",
        help="Jobs that came to their end.",
        labels=("outcome",),
    ),
    MetricSpec(
        name="voxray_job_seconds",
        kind="histogram",
        help="Length of jobs, from the offer to the end.",
        labels=("outcome",),
        buckets=(1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600),
    ),
    MetricSpec(
        name="voxray_slots",
        kind="gauge",
        help="Call slots of live hosts, by use.",
        labels=("state",),
    ),
    MetricSpec(
        name="voxray_hosts", kind="gauge", help="Live session hosts, by state.", labels=("state",)
    ),
    MetricSpec(name="voxray_load", kind="gauge", help="Load as reported to LiveKit (0 to 1)."),
    MetricSpec(
        name="voxray_host_starts_total",
        kind="counter",
        help="Session hosts started, by outcome.",
        labels=("outcome",),
    ),
    MetricSpec(
        name="voxray_host_start_seconds",
        kind="histogram",
        help="Start of a session host until it takes jobs.",
        buckets=START_BUCKETS,
    ),
    MetricSpec(
        name="voxray_hosts_lost_total",
        kind="counter",
        help="Session hosts lost, by kind.",
        labels=("kind",),
    ),
    MetricSpec(
        name="voxray_failovers_total",
        kind="counter",
        help="Jobs whose host was lost.",
        labels=("kind", "outcome"),
    ),
    MetricSpec(
        name="voxray_failover_detection_seconds",
        kind="histogram",
        help="Last sign of life of a host to its loss being known.",
        labels=("kind",),
        buckets=GAP_BUCKETS,
    ),
    MetricSpec(
        name="voxray_failover_gap_seconds",
        kind="histogram",
        help="Last sign of life of a host to the agent's audio track being published again.",
        labels=("kind",),
        buckets=GAP_BUCKETS,
    ),
    MetricSpec(
        name="voxray_terminations_ignored_total",
        kind="counter",
        help="Stale terminations of resumed jobs that were checked and ignored.",
    ),
    MetricSpec(
        name="voxray_replicas",
        kind="gauge",
        help="Inference replicas that take streams.",
        labels=("group",),
    ),
    MetricSpec(
        name="voxray_replicas_lost_total",
        kind="counter",
        help="Inference replicas lost or not started.",
        labels=("group",),
    ),
    MetricSpec(
        name="voxray_turns_total",
        kind="counter",
        help="Turns of calls.",
        labels=("agent", "interrupted"),
    ),
    MetricSpec(
        name="voxray_turn_seconds",
        kind="histogram",
        help="End of the user's speech to the agent's first audio, as the session saw it.",
        labels=("agent",),
        buckets=TURN_BUCKETS,
    ),
    MetricSpec(
        name="voxray_turn_stage_seconds",
        kind="histogram",
        help="One stage of a turn.",
        labels=("agent", "stage"),
        buckets=STAGE_BUCKETS,
    ),
    MetricSpec(
        name="voxray_turn_tools_total",
        kind="counter",
        help="Function tools called in turns.",
        labels=("agent",),
    ),
    MetricSpec(
        name="voxray_inference_batch_size",
        kind="histogram",
        help="Requests in a batch.",
        labels=("engine",),
        buckets=SIZE_BUCKETS,
        role="replica",
    ),
    MetricSpec(
        name="voxray_inference_queue_seconds",
        kind="histogram",
        help="Wait of a batch's oldest request.",
        labels=("engine",),
        buckets=INFERENCE_BUCKETS,
        role="replica",
    ),
    MetricSpec(
        name="voxray_inference_service_seconds",
        kind="histogram",
        help="Run of a batch in its engine.",
        labels=("engine",),
        buckets=INFERENCE_BUCKETS,
        role="replica",
    ),
    MetricSpec(
        name="voxray_inference_streams",
        kind="gauge",
        help="Open streams.",
        labels=("engine",),
        role="replica",
    ),
    MetricSpec(
        name="voxray_inference_stream_failures_total",
        kind="counter",
        help="Streams refused or failed.",
        labels=("engine", "code"),
        role="replica",
    ),
    MetricSpec(
        name="voxray_inference_reopens_total",
        kind="counter",
        help="Streams that a host opened anew on another replica.",
        labels=("engine",),
        role="host",
    ),
    MetricSpec(
        name="voxray_inference_reopen_gap_seconds",
        kind="histogram",
        help="Loss of a replica to the stream being open on another.",
        labels=("engine",),
        buckets=GAP_BUCKETS,
        role="host",
    ),
    MetricSpec(
        name="voxray_frames_dropped_total",
        kind="counter",
        help="Audio frames that a full buffer could not take.",
        labels=("where",),
        role="any",
    ),
    MetricSpec(
        name="voxray_loop_lag_seconds",
        kind="histogram",
        help="How late an event loop ran its timer.",
        labels=("process",),
        buckets=LAG_BUCKETS,
        role="any",
    ),
)


class MetricsSink:
    """Turns events into metrics in a registry of its own, one per process."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        for spec in CATALOGUE:
            if spec.kind == "counter":
                self._counters[spec.name] = Counter(
                    spec.name, spec.help, spec.labels, registry=self.registry
                )
            elif spec.kind == "gauge":
                self._gauges[spec.name] = Gauge(
                    spec.name, spec.help, spec.labels, registry=self.registry
                )
            else:
                self._histograms[spec.name] = Histogram(
                    spec.name,
                    spec.help,
                    spec.labels,
                    registry=self.registry,
                    buckets=spec.buckets,
                )

    def emit(self, event: ev.Event) -> None:
        """Take one event; those without a metric are passed over."""
        match event:
            case ev.TurnDone():
                self._turn(event)
            case ev.BatchDone() | ev.StreamsChanged() | ev.StreamFailed() | ev.StreamReopened():
                self._inference(event)
            case ev.FramesDropped(where=where, frames=frames):
                self._count("voxray_frames_dropped_total", where, by=frames)
            case ev.LoopLag(process=process, seconds=seconds):
                self._observe("voxray_loop_lag_seconds", seconds, process)
            case ev.WorkerRegistered() | ev.WorkerDisconnected():
                self._worker(event)
            case _:
                self._fleet(event)
                self._job(event)

    def _worker(self, event: ev.WorkerRegistered | ev.WorkerDisconnected) -> None:
        registered = isinstance(event, ev.WorkerRegistered)
        self._set("voxray_worker_registered", float(registered))
        if isinstance(event, ev.WorkerRegistered):
            kind = "reconnect" if event.reconnect else "first"
            self._count("voxray_worker_registrations_total", kind)
        else:
            self._count("voxray_worker_disconnects_total")

    def _job(self, event: ev.Event) -> None:
        match event:
            case ev.JobOffered():
                self._count("voxray_job_offers_total")
            case ev.JobAnswered(outcome=outcome, seconds=seconds):
                self._count("voxray_job_answers_total", outcome)
                self._observe("voxray_job_answer_seconds", seconds)
            case ev.JobPlaced(cause=cause):
                self._count("voxray_job_placements_total", cause)
            case ev.JobRunning(cause=cause, seconds=seconds):
                self._observe("voxray_job_start_seconds", seconds, cause)
            case ev.JobEnded(outcome=outcome, seconds=seconds):
                self._count("voxray_jobs_ended_total", outcome)
                self._observe("voxray_job_seconds", seconds, outcome)
            case ev.FailoverDone():
                self._count("voxray_failovers_total", event.kind, event.outcome)
                self._observe("voxray_failover_detection_seconds", event.detection_s, event.kind)
                if event.outcome == "resumed":
                    self._observe("voxray_failover_gap_seconds", event.gap_s, event.kind)
            case ev.TerminationIgnored():
                self._count("voxray_terminations_ignored_total")
            case _:
                pass

    def _fleet(self, event: ev.Event) -> None:
        match event:
            case ev.CapacityChanged():
                free = max(0, event.slots - event.used - event.reserved)
                for state, slots in (
                    ("used", event.used),
                    ("reserved", event.reserved),
                    ("free", free),
                ):
                    self._set("voxray_slots", slots, state)
                self._set("voxray_hosts", event.hosts - event.idle_hosts, "busy")
                self._set("voxray_hosts", event.idle_hosts, "idle")
                self._set("voxray_load", event.load)
            case ev.HostReady(seconds=seconds):
                self._count("voxray_host_starts_total", "ready")
                self._observe("voxray_host_start_seconds", seconds)
            case ev.HostStartFailed():
                self._count("voxray_host_starts_total", "failed")
            case ev.HostLost(kind=kind):
                self._count("voxray_hosts_lost_total", kind)
            case ev.ReplicaReady(group=group):
                self._gauges["voxray_replicas"].labels(group).inc()
            case ev.ReplicaLost(group=group, was_ready=was_ready):
                self._count("voxray_replicas_lost_total", group)
                if was_ready:
                    self._gauges["voxray_replicas"].labels(group).dec()
            case _:
                pass

    def _turn(self, event: ev.TurnDone) -> None:
        self._count("voxray_turns_total", event.agent, str(event.interrupted).lower())
        if event.tools:
            self._count("voxray_turn_tools_total", event.agent, by=len(event.tools))
        for stage, seconds in event.stages.items():
            if stage == "e2e":
                self._observe("voxray_turn_seconds", seconds, event.agent)
            else:
                self._observe("voxray_turn_stage_seconds", seconds, event.agent, stage)

    def _inference(
        self, event: ev.BatchDone | ev.StreamsChanged | ev.StreamFailed | ev.StreamReopened
    ) -> None:
        match event:
            case ev.BatchDone(engine=engine, size=size, queue_s=queue_s, service_s=service_s):
                self._observe("voxray_inference_batch_size", size, engine)
                self._observe("voxray_inference_queue_seconds", queue_s, engine)
                self._observe("voxray_inference_service_seconds", service_s, engine)
            case ev.StreamsChanged(engine=engine, open=count):
                self._set("voxray_inference_streams", count, engine)
            case ev.StreamFailed(engine=engine, code=code):
                self._count("voxray_inference_stream_failures_total", engine, code)
            case ev.StreamReopened(engine=engine, gap_s=gap_s):
                self._count("voxray_inference_reopens_total", engine)
                self._observe("voxray_inference_reopen_gap_seconds", gap_s, engine)

    def _count(self, name: str, *labels: str, by: float = 1) -> None:
        metric = self._counters[name]
        (metric.labels(*labels) if labels else metric).inc(by)

    def _set(self, name: str, value: float, *labels: str) -> None:
        metric = self._gauges[name]
        (metric.labels(*labels) if labels else metric).set(value)

    def _observe(self, name: str, value: float, *labels: str) -> None:
        metric = self._histograms[name]
        (metric.labels(*labels) if labels else metric).observe(value)
