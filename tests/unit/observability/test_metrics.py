"""The catalogue is sound, every metric is reachable by an event, and the docs are current."""

import re
import runpy
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from voxray.base.ids import HostId, JobId, ReplicaId
from voxray.observability import events as ev
from voxray.observability import room_events as room
from voxray.observability.catalogue import CATALOGUE
from voxray.observability.metrics import MetricsSink

JOB = JobId("AJ_1")
HOST = HostId("aa")
REPLICA = ReplicaId("speech-1")

EVERY_EVENT: tuple[ev.Event, ...] = (
    room.RoomFound(room="r", how="survey"),
    room.RoomServed(job_id=JOB, room="r", seconds=3.0),
    room.RoomGivenUp(room="r", reason="left"),
    room.DispatchMade(room="r", outcome="created"),
    room.RoomsWaiting(count=2),
    ev.WorkerRegistered(worker_id="AW_1", reconnect=False),
    ev.WorkerDisconnected(reason="gone"),
    ev.JobOffered(job_id=JOB, room="r"),
    ev.JobAnswered(job_id=JOB, outcome="accepted", seconds=0.01),
    ev.JobPlaced(job_id=JOB, host_id=HOST, generation=1, cause="new"),
    ev.JobRunning(job_id=JOB, host_id=HOST, generation=1, cause="new", seconds=0.3),
    ev.JobEnded(job_id=JOB, outcome="success", reason="", seconds=12),
    ev.FailoverDone(
        job_id=JOB,
        kind="host_died",
        outcome="resumed",
        from_host=HOST,
        to_host=HOST,
        generation=2,
        detection_s=0.1,
        gap_s=0.6,
    ),
    ev.TerminationIgnored(job_id=JOB, generation=2),
    ev.HostStarting(host_id=HOST),
    ev.HostReady(host_id=HOST, seconds=1.5),
    ev.HostStartFailed(host_id=HOST, reason="import"),
    ev.HostLost(host_id=HOST, kind="host_died", evidence="stream broke", jobs=1),
    ev.HostRetired(host_id=HOST, reason="idle"),
    ev.ReplicaReady(replica_id=REPLICA, group="speech", device="0"),
    ev.ReplicaLost(replica_id=REPLICA, group="speech", reason="died"),
    ev.CapacityChanged(slots=12, used=3, reserved=1, hosts=2, idle_hosts=1, load=0.2),
    ev.TurnDone(
        job_id=JOB, room="r", agent="a", number=1, stages={"e2e": 1, "llm_ttft": 0.1}, tools=("t",)
    ),
    ev.BatchDone(engine="silero", size=3, queue_s=0.004, service_s=0.001),
    ev.StreamsChanged(engine="silero", open=2),
    ev.StreamFailed(engine="silero", code="limit"),
    ev.GroupResized(group="speech", wanted=2, streams=9, queue_s=0.1),
    ev.ReplicaDraining(replica_id="ears-1", group="ears", streams=0),
    ev.ReplicaWaiting(replica_id="speech-2", group="speech", reason="waits for 1 GPU: 0 of 1 free"),
    ev.StreamReopened(engine="silero", gap_s=0.2, replayed_s=0.5),
    ev.PhraseCacheUsed(engine="espeak", hit=True, bytes=1000),
    ev.FramesDropped(where="uplink", frames=3),
    ev.LoopLag(process="host", seconds=0.002),
)


def test_names_follow_prometheus_conventions() -> None:
    for spec in CATALOGUE:
        assert re.fullmatch(r"voxray(_[a-z0-9]+)+", spec.name), spec.name
        assert (spec.kind == "counter") == spec.name.endswith("_total"), spec.name
        assert (spec.kind == "histogram") == bool(spec.buckets), spec.name
        assert list(spec.buckets) == sorted(set(spec.buckets)), spec.name
        assert not {"job", "job_id", "room", "identity", "pid"} & set(spec.labels), spec.name
    assert len({spec.name for spec in CATALOGUE}) == len(CATALOGUE)


def test_every_metric_is_made_by_some_event() -> None:
    sink = MetricsSink()
    for event in EVERY_EVENT:
        sink.emit(event)
    samples = {sample.name for metric in sink.registry.collect() for sample in metric.samples}
    for spec in CATALOGUE:
        name = f"{spec.name}_count" if spec.kind == "histogram" else spec.name
        assert name in samples, f"{spec.name} has no series after every event was emitted"


def test_no_series_grows_with_jobs_or_rooms() -> None:
    sink = MetricsSink()

    def run(number: int) -> None:
        job = JobId(f"AJ_{number}")
        sink.emit(ev.JobOffered(job_id=job, room=f"room-{number}"))
        sink.emit(ev.JobEnded(job_id=job, outcome="success", reason=f"r{number}", seconds=1))
        sink.emit(
            ev.TurnDone(job_id=job, room=f"room-{number}", agent="a", number=1, stages={"e2e": 1})
        )

    run(0)
    before = len(generate_latest(sink.registry).splitlines())
    for number in range(1, 1000):
        run(number)
    assert len(generate_latest(sink.registry).splitlines()) == before


def test_values_are_what_the_events_say() -> None:
    sink = MetricsSink()
    for event in EVERY_EVENT:
        sink.emit(event)
    value = sink.registry.get_sample_value
    assert value("voxray_slots", {"state": "free"}) == 8
    assert value("voxray_failover_gap_seconds_sum", {"kind": "host_died"}) == pytest.approx(0.6)
    assert value("voxray_replicas", {"group": "speech"}) == 0
    assert value("voxray_turn_seconds_sum", {"agent": "a"}) == 1
    assert value("voxray_worker_registered") == 0


def test_docs_are_current() -> None:
    root = Path(__file__).resolve().parents[3]
    module = runpy.run_path(str(root / "scripts" / "gen_metrics_docs.py"))
    assert (root / "docs" / "metrics.md").read_text(encoding="utf-8") == module["render"]()
