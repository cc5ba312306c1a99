"""Whatever comes in whatever order: only `ProtocolError`, and never a wrong state."""

import contextlib

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from livekit.protocol import agent

from voxray.base.errors import ProtocolError
from voxray.base.ids import JobId
from voxray.dispatcher.messages import (
    AvailabilityResponse,
    RegisterWorkerRequest,
    UpdateJobStatus,
    UpdateWorkerStatus,
    WorkerPing,
    decode,
)
from voxray.dispatcher.protocol import AvailabilityRequest, ProtocolState, WorkerProtocol

JOBS = st.sampled_from([JobId(f"AJ_{number}") for number in range(4)])
STATUSES = st.sampled_from(["running", "success", "failed"])


def _bytes_of(fields):
    return agent.ServerMessage(**fields).SerializeToString()


SERVER_BYTES = st.one_of(
    JOBS.map(lambda job: _bytes_of({"availability": {"job": {"id": job}}})),
    JOBS.map(lambda job: _bytes_of({"assignment": {"job": {"id": job}, "token": "t"}})),
    JOBS.map(lambda job: _bytes_of({"termination": {"job_id": job}})),
    st.just(_bytes_of({"register": {"worker_id": "AW"}})),
    st.just(_bytes_of({"pong": {"last_timestamp": 1}})),
    st.just(_bytes_of({"go_away": {"reason": "x"}})),
)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_protocol_error(data):
    with contextlib.suppress(ProtocolError):
        decode(data)


@given(SERVER_BYTES, st.data())
def test_a_damaged_message_is_a_message_or_a_protocol_error(message, data):
    cut = message[: data.draw(st.integers(0, len(message)))]
    at = data.draw(st.integers(0, max(0, len(cut) - 1)))
    damaged = cut[:at] + data.draw(st.binary(max_size=4)) + cut[at + 1 :]
    with contextlib.suppress(ProtocolError):
        decode(damaged)


class Worker(RuleBasedStateMachine):
    """A protocol between a server that says anything and a core that says anything."""

    def __init__(self):
        super().__init__()
        self.protocol = WorkerProtocol(
            RegisterWorkerRequest(worker_type=0, agent_name="", version="1"), lambda: (JobId("X"),)
        )
        self.offered = set()
        self.job_updates = {}
        self.load = None
        self.greeted = False

    @precondition(lambda self: self.protocol.state is ProtocolState.DISCONNECTED)
    @rule()
    def connect(self):
        self.protocol.connected()
        self.greeted = False

    @rule()
    def lose_connection(self):
        self.protocol.disconnected()
        self.offered.clear()

    @rule(data=st.one_of(SERVER_BYTES, SERVER_BYTES, st.binary(max_size=40)))
    def receive(self, data):
        before = self.protocol.state
        try:
            events = self.protocol.receive(data)
        except ProtocolError:
            assert self.protocol.state is before
            return
        if before in {ProtocolState.DISCONNECTED, ProtocolState.CLOSED}:
            assert events == ()
        for event in events:
            if isinstance(event, AvailabilityRequest):
                self.offered.add(event.job_id)

    @rule(job=JOBS, available=st.booleans())
    def answer(self, job, available):
        late = self.protocol.counters.late_answers
        self.protocol.send(AvailabilityResponse(job_id=job, available=available))
        assert (self.protocol.counters.late_answers == late) is (job in self.offered)
        self.offered.discard(job)

    @rule(job=JOBS, status=STATUSES)
    def update_job(self, job, status):
        self.protocol.send(UpdateJobStatus(job_id=job, status=status))
        self.job_updates[job] = status

    @rule(count=st.integers(0, 9))
    def update_load(self, count):
        self.protocol.send(UpdateWorkerStatus(full=False, load=0.5, job_count=count))
        self.load = count

    @rule()
    def ping(self):
        self.protocol.send(WorkerPing(timestamp_ms=1))
        self.protocol.repeat_status()

    @rule()
    def take(self):
        messages = [agent.WorkerMessage.FromString(data) for data in self.protocol.take()]
        kinds = [message.WhichOneof("message") for message in messages]
        state = self.protocol.state
        if state is ProtocolState.DISCONNECTED:
            assert kinds == []
        elif state is ProtocolState.REGISTERING:
            assert kinds == ([] if self.greeted else ["register"])
            self.greeted = True
        else:
            updates = {
                m.update_job.job_id: m.update_job.status
                for m in messages
                if m.HasField("update_job")
            }
            numbers = {"running": 1, "success": 2, "failed": 3}
            assert updates == {job: numbers[status] for job, status in self.job_updates.items()}
            self.job_updates.clear()
            loads = [m.update_worker.job_count for m in messages if m.HasField("update_worker")]
            assert loads in ([], [self.load])
        assert not self.protocol.pending

    @invariant()
    def knows_whether_it_is_registered(self):
        if self.protocol.state is ProtocolState.REGISTERED:
            assert self.protocol.worker_id


TestWorker = Worker.TestCase
