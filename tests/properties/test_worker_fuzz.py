"""A LiveKit that says anything in any order, to the real protocol and the real core: no crash, no
answer too many, and at the end every slot is free again."""

import contextlib
import random

from hypothesis import given, settings
from hypothesis import strategies as st
from livekit.protocol import agent

from tests.fakes.dispatch_world import World, program
from voxray.actors.contracts import RequestAnswer
from voxray.base.errors import ProtocolError
from voxray.base.ids import JobId
from voxray.base.settings import HostSettings, InferenceSettings
from voxray.dispatcher import commands as cmd
from voxray.dispatcher import inputs as inp
from voxray.dispatcher.jobs import JobState
from voxray.dispatcher.messages import (
    AvailabilityRequest,
    RegisterWorkerRequest,
    UnknownMessage,
    WorkerPing,
    WorkerPong,
)
from voxray.dispatcher.protocol import ProtocolState, WorkerProtocol
from voxray.dispatcher.translation import input_of, intent_of

JOBS = [f"AJ_{number}" for number in range(6)]


def message(**fields) -> bytes:
    return agent.ServerMessage(**fields).SerializeToString()


def offer(job_id, room=None) -> bytes:
    return message(availability={"job": {"id": job_id, "room": {"name": room or f"room-{job_id}"}}})


JOB = st.sampled_from(JOBS)
SAID = st.one_of(
    JOB.map(offer),
    JOB.map(offer),
    JOB.map(lambda job: message(assignment={"job": {"id": job}, "token": "t"})),
    JOB.map(lambda job: message(assignment={"job": {"id": job}, "token": "t"})),
    JOB.map(lambda job: message(termination={"job_id": job})),
    st.sampled_from(
        [
            message(register={"worker_id": "AW_again"}),
            message(register={}),
            message(pong={"last_timestamp": -1}),
            message(availability={}),
            message(assignment={"job": {"id": JOBS[0]}}),
            message(termination={}),
            b"",
        ]
    ),
    st.binary(max_size=60),
)
HALVES = st.tuples(SAID, st.floats(0, 1)).map(lambda pair: pair[0][: int(len(pair[0]) * pair[1])])
STEPS = st.one_of(
    SAID.map(lambda data: ("say", data)),
    SAID.map(lambda data: ("say", data)),
    HALVES.map(lambda data: ("say", data)),
    st.just(("text", b"")),
    st.sampled_from([0.0, 0.05, 0.4, 3.0, 9.0]).map(lambda pause: ("pause", pause)),
    st.just(("disconnect", None)),
    JOB.map(lambda job: ("finish", job)),
    st.just(("kill", None)),
    st.sampled_from([None, "reject", "raise"]).map(lambda mood: ("mood", mood)),
)


class Fuzzed(World):
    """The world, with LiveKit behind the real worker protocol."""

    def __init__(self, **fields) -> None:
        self.protocol = WorkerProtocol(
            RegisterWorkerRequest(worker_type=0, agent_name="", version="1")
        )
        self.owed = {}  # Offers of this connection that may be answered, by job.
        super().__init__(inference=InferenceSettings(groups=()), start_core=False, **fields)
        self.assigns = False
        self.connect()
        self.tell(inp.FleetFound(hosts=(), replicas=()))

    def connect(self) -> None:
        self.protocol.connected()
        self.owed.clear()
        self.hear(message(register={"worker_id": f"AW_{self.rng.randrange(10**6)}"}))

    def hear(self, data: bytes) -> None:
        try:
            events = self.protocol.receive(data)
        except ProtocolError:
            return
        for event in events:
            if isinstance(event, WorkerPong | UnknownMessage):
                continue
            if isinstance(event, AvailabilityRequest):
                self.owed[event.job_id] = self.owed.get(event.job_id, 0) + 1
            item = input_of(event, self.clock.wall(), "ws://lk", lambda _: "")
            if item is not None:
                self.tell(item)
        self.write()

    def write(self) -> None:
        """Read what the worker writes: well-formed, and answers only to what was offered."""
        for data in self.protocol.take():
            sent = agent.WorkerMessage.FromString(data)
            kind = sent.WhichOneof("message")
            assert kind is not None
            if kind == "availability":
                self.owed[sent.availability.job_id] -= 1
                assert self.owed[sent.availability.job_id] >= 0, "answered what was not offered"

    def break_connection(self) -> None:
        self.protocol.disconnected()
        self.disconnect()
        self._queue = [
            each for each in self._queue if not isinstance(each[2], inp.WorkerRegistered)
        ]
        self.connect()

    def _perform(self, command: cmd.Command) -> None:
        super()._perform(command)
        if isinstance(command, cmd.AnswerAvailability | cmd.UpdateWorker | cmd.UpdateJob):
            self.protocol.send(intent_of(command))

    def _check_room(self, command: cmd.CheckRoom) -> None:
        answer = self.rng.choice(list(inp.RoomAnswer))
        self.later(0.01, inp.RoomChecked(job_id=command.job_id, answer=answer))

    def step(self, what: str, value: object) -> None:
        match what:
            case "say":
                self.hear(value)
            case "text":
                with contextlib.suppress(ProtocolError):
                    self.protocol.receive_text()
            case "pause":
                self.advance(value)
            case "disconnect":
                self.break_connection()
            case "finish":
                self.finish(JobId(value))
            case "kill" if self.living():
                self.kill(self.rng.choice(self.living()).host_id)
            case "mood":
                self.request_answer = RequestAnswer(accept=None) if value == "reject" else None
                self.answers_requests = value != "raise"
        self.protocol.send(WorkerPing(timestamp_ms=1))
        self.write()

    def come_to_an_end(self) -> None:
        """Everything that runs ends; then nothing may be held any more."""
        self.answers_requests = True
        self.advance(60.0)
        for job in list(self.core._state.jobs):
            assert job.state in {JobState.RUNNING, JobState.STARTING, JobState.RESUMING}, job
            self.finish(job.job_id)
        self.advance(90.0)
        for job in list(self.core._state.jobs):
            self.finish(job.job_id)
        self.advance(30.0)
        totals = self.core.snapshot().totals
        assert (totals.jobs, totals.reserved, totals.used, totals.held_offers) == (0, 0, 0, 0)
        assert totals.ready_hosts >= 1
        self.write()


def world(*, asks: bool) -> Fuzzed:
    one = Fuzzed(
        hosts=HostSettings(sessions_per_host=2, min_hosts=1, max_hosts=3, idle_hosts=1),
        info=program(has_request_fnc=asks),
        rng=random.Random(1),
    )
    one.advance(1.5)
    return one


@settings(deadline=None)
@given(st.lists(STEPS, max_size=60), st.booleans())
def test_whatever_livekit_says_every_slot_comes_back(steps, asks):
    one = world(asks=asks)
    for what, value in steps:
        one.step(what, value)
    if one.protocol.state is not ProtocolState.REGISTERED:
        one.connect()
    one.come_to_an_end()
    # And it still works as if nothing had been.
    one.request_answer = None
    one.hear(offer("AJ_last"))
    one.advance(1.0)
    one.hear(message(assignment={"job": {"id": "AJ_last"}, "token": "t"}))
    one.advance(2.0)
    (job,) = one.core._state.jobs
    assert (job.job_id, job.state) == ("AJ_last", JobState.RUNNING)


def test_an_assignment_before_its_offer_takes_no_slot():
    one = world(asks=False)
    one.hear(message(assignment={"job": {"id": "AJ_0"}, "token": "t"}))
    one.hear(message(termination={"job_id": "AJ_0"}))
    assert one.core.snapshot().totals.used == 0
    one.hear(offer("AJ_0"))
    assert one.core.snapshot().totals.reserved == 1
    one.advance(10.0)
    assert one.core.snapshot().totals.reserved == 0
