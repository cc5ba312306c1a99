"""The catalogue of every Prometheus metric: names, kinds, labels, buckets, one place.

Seconds everywhere; no label ever holds a job, a room, an identity or a process id. The page
`docs/metrics.md` is made from this module (`scripts/gen_metrics_docs.py`).
"""

from dataclasses import dataclass
from typing import Literal

# Buckets in seconds (see docs/metrics.md for why each range).
TURN_BUCKETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1, 1.25, 1.5, 2, 3, 5, 10)
STAGE_BUCKETS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 1.5, 2.5, 5)
DISPATCH_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 7.5)
GAP_BUCKETS = (0.1, 0.25, 0.5, 1, 1.5, 2, 3, 5, 10)
INFERENCE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64)
START_BUCKETS = (0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64)
SIZE_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128)
BLOCK_BUCKETS = (0.25, 0.5, 1, 2, 3, 5, 10, 30, 60)
WAIT_BUCKETS = (0.1, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600)
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
        help="Answers to offers; every outcome but accepted is a refusal and its reason.",
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
    MetricSpec(name="voxray_rooms_waiting", kind="gauge", help="Calls that wait for an agent now."),
    MetricSpec(
        name="voxray_rooms_found_total",
        kind="counter",
        help="Calls without an agent that were found, by how.",
        labels=("how",),
    ),
    MetricSpec(
        name="voxray_room_wait_seconds",
        kind="histogram",
        help="Start of a caller's wait for an agent, or the offer that we refused, to the "
        "agent's placement; calls that had to wait only.",
        buckets=WAIT_BUCKETS,
    ),
    MetricSpec(
        name="voxray_rooms_given_up_total",
        kind="counter",
        help="Calls that waited and needed us no more, by why.",
        labels=("reason",),
    ),
    MetricSpec(
        name="voxray_dispatches_total",
        kind="counter",
        help="Dispatches created for waiting calls, by outcome.",
        labels=("outcome",),
    ),
    MetricSpec(
        name="voxray_job_stops_repeated_total",
        kind="counter",
        help="Times a job was told again to end, because it still ran after its time.",
    ),
    MetricSpec(
        name="voxray_program_changes_total",
        kind="counter",
        help="Times another version of the program became the current one.",
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
        name="voxray_loop_blocked_total",
        kind="counter",
        help="Times that a call blocked the event loop of its host for too long.",
    ),
    MetricSpec(
        name="voxray_loop_blocked_seconds",
        kind="histogram",
        help="How long the event loop of a host was blocked, once it ran again.",
        buckets=BLOCK_BUCKETS,
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
        name="voxray_replicas_wanted",
        kind="gauge",
        help="Inference replicas that a group should have, once its load has changed that.",
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
        name="voxray_tts_phrases_total",
        kind="counter",
        help="Texts that were looked for among the phrases spoken before.",
        labels=("engine", "outcome"),
        role="replica",
    ),
    MetricSpec(
        name="voxray_tts_phrase_cache_bytes",
        kind="gauge",
        help="Memory of the phrases that are kept.",
        role="replica",
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
