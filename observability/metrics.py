"""The metrics sink: fills the catalogue's metrics from events, in a registry of its own."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from voxray.observability import events as ev
from voxray.observability import room_events as room
from voxray.observability.catalogue import CATALOGUE


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
            case (
                ev.BatchDone()
                | ev.StreamsChanged()
                | ev.StreamFailed()
                | ev.StreamReopened()
                | ev.PhraseCacheUsed()
            ):
                self._inference(event)
            case ev.FramesDropped(where=where, frames=frames):
                self._count("voxray_frames_dropped_total", where, by=frames)
            case ev.LoopLag(process=process, seconds=seconds):
                self._observe("voxray_loop_lag_seconds", seconds, process)
            case ev.WorkerRegistered() | ev.WorkerDisconnected():
                self._worker(event)
            case _:
                self._fleet(event)
                self._room(event)
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
            case ev.StopRepeated():
                self._count("voxray_job_stops_repeated_total")
            case ev.ProgramChanged():
                self._count("voxray_program_changes_total")
            case ev.TerminationIgnored():
                self._count("voxray_terminations_ignored_total")
            case _:
                pass

    def _room(self, event: ev.Event) -> None:
        match event:
            case room.RoomFound(how=how):
                self._count("voxray_rooms_found_total", how)
            case room.RoomServed(seconds=seconds):
                self._observe("voxray_room_wait_seconds", seconds)
            case room.RoomGivenUp(reason=reason):
                self._count("voxray_rooms_given_up_total", reason)
            case room.DispatchMade(outcome=outcome):
                self._count("voxray_dispatches_total", outcome)
            case room.RoomsWaiting(count=count):
                self._set("voxray_rooms_waiting", count)
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
            case ev.LoopBlocked():
                self._count("voxray_loop_blocked_total")
            case ev.LoopFreed(seconds=seconds):
                self._observe("voxray_loop_blocked_seconds", seconds)
            case _:
                self._replicas(event)

    def _replicas(self, event: ev.Event) -> None:
        match event:
            case ev.ReplicaReady(group=group):
                self._gauges["voxray_replicas"].labels(group).inc()
            case ev.ReplicaLost(group=group, was_ready=was_ready):
                self._count("voxray_replicas_lost_total", group)
                if was_ready:
                    self._gauges["voxray_replicas"].labels(group).dec()
            case ev.ReplicaDraining(group=group):
                self._gauges["voxray_replicas"].labels(group).dec()
            case ev.GroupResized(group=group, wanted=wanted):
                self._gauges["voxray_replicas_wanted"].labels(group).set(wanted)
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
        self,
        event: ev.BatchDone
        | ev.StreamsChanged
        | ev.StreamFailed
        | ev.StreamReopened
        | ev.PhraseCacheUsed,
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
            case ev.PhraseCacheUsed(engine=engine, hit=hit, bytes=count):
                self._count("voxray_tts_phrases_total", engine, "hit" if hit else "miss")
                self._set("voxray_tts_phrase_cache_bytes", count)

    def _count(self, name: str, *labels: str, by: float = 1) -> None:
        metric = self._counters[name]
        (metric.labels(*labels) if labels else metric).inc(by)

    def _set(self, name: str, value: float, *labels: str) -> None:
        metric = self._gauges[name]
        (metric.labels(*labels) if labels else metric).set(value)

    def _observe(self, name: str, value: float, *labels: str) -> None:
        metric = self._histograms[name]
        (metric.labels(*labels) if labels else metric).observe(value)
