"""The worker protocol: registration, offers, what is kept and what is dropped over connections."""

import pytest
from livekit.protocol import agent

from voxray.base.errors import InvalidTransitionError, ProtocolError
from voxray.base.ids import JobId
from voxray.dispatcher import protocol as module
from voxray.dispatcher.messages import (
    AvailabilityResponse,
    JobTermination,
    RegisterWorkerRequest,
    UnknownMessage,
    UpdateJobStatus,
    UpdateWorkerStatus,
    WorkerPing,
)
from voxray.dispatcher.protocol import (
    AGENT_NAME_ATTRIBUTE,
    PINGS_LIMIT,
    ProtocolState,
    Registered,
    WorkerProtocol,
)

J1, J2, J3 = JobId("AJ_1"), JobId("AJ_2"), JobId("AJ_3")


def new_protocol(active_jobs=()):
    return WorkerProtocol(
        RegisterWorkerRequest(worker_type=0, agent_name="desk", version="1"), lambda: active_jobs
    )


def registered(active_jobs=()):
    protocol = new_protocol(active_jobs)
    register(protocol)
    return protocol


def register(protocol, worker_id="AW_1"):
    protocol.connected()
    protocol.take()
    return protocol.receive(server(register={"worker_id": worker_id}))


def server(**fields):
    return agent.ServerMessage(**fields).SerializeToString()


def offer(job_id):
    return server(availability={"job": {"id": job_id, "room": {"name": "r"}}})


def answer(job_id, **fields):
    return AvailabilityResponse(job_id=job_id, available=True, identity="a", **fields)


def taken(protocol):
    return [agent.WorkerMessage.FromString(data) for data in protocol.take()]


def kinds(protocol):
    return [message.WhichOneof("message") for message in taken(protocol)]


def test_registers_before_anything_else():
    protocol = new_protocol()
    protocol.send(UpdateWorkerStatus(full=False, load=0.1, job_count=0))
    assert not protocol.pending
    protocol.connected()
    assert protocol.state is ProtocolState.REGISTERING
    assert kinds(protocol) == ["register"]
    assert kinds(protocol) == []


def test_a_registration_says_whether_it_is_the_first():
    protocol = new_protocol()
    (first,) = register(protocol, "AW_1")
    assert first == Registered(worker_id="AW_1", server_version="", region="", reconnect=False)
    protocol.disconnected()
    (second,) = register(protocol, "AW_2")
    assert second.reconnect
    assert protocol.worker_id == "AW_2"


@pytest.mark.parametrize(
    "first", [offer(J1), server(termination={"job_id": J1}), server(), b"\xff"]
)
def test_anything_but_the_register_response_is_refused_at_first(first):
    protocol = new_protocol()
    protocol.connected()
    with pytest.raises(ProtocolError):
        protocol.receive(first)
    assert protocol.state is ProtocolState.REGISTERING
    assert protocol.counters.malformed == 1
    assert protocol.receive(server(register={"worker_id": "AW"}))


def test_a_second_register_response_changes_nothing():
    protocol = registered()
    with pytest.raises(ProtocolError, match="twice"):
        protocol.receive(server(register={"worker_id": "AW_9"}))
    assert (protocol.state, protocol.worker_id) == (ProtocolState.REGISTERED, "AW_1")


def test_an_answer_carries_the_agent_name_that_the_program_may_replace():
    protocol = registered()
    for job_id, attributes in ((J1, {"k": "v"}), (J2, {AGENT_NAME_ATTRIBUTE: "own"})):
        protocol.receive(offer(job_id))
        protocol.send(answer(job_id, attributes=attributes))
    one, two = (message.availability for message in taken(protocol))
    assert dict(one.participant_attributes) == {"k": "v", AGENT_NAME_ATTRIBUTE: "desk"}
    assert dict(two.participant_attributes) == {AGENT_NAME_ATTRIBUTE: "own"}


def test_a_refusal_carries_no_attributes():
    protocol = registered()
    protocol.receive(offer(J1))
    protocol.send(AvailabilityResponse(job_id=J1, available=False))
    assert not taken(protocol)[0].availability.participant_attributes


def test_an_offer_is_answered_once():
    protocol = registered()
    protocol.receive(offer(J1))
    protocol.send(answer(J1))
    protocol.send(AvailabilityResponse(job_id=J1, available=False))
    assert [message.availability.available for message in taken(protocol)] == [True]
    assert protocol.counters.late_answers == 1


def test_the_same_job_can_be_offered_again():
    protocol = registered()
    for _ in range(2):
        protocol.receive(offer(J1))
        protocol.send(answer(J1))
        assert kinds(protocol) == ["availability"]


def test_answers_to_offers_of_an_earlier_connection_are_dropped():
    protocol = registered()
    protocol.receive(offer(J1))
    protocol.receive(offer(J2))
    protocol.send(answer(J2))  # Not written before the connection breaks.
    protocol.disconnected()
    register(protocol)
    protocol.send(answer(J1))
    assert kinds(protocol) == []
    assert protocol.counters.late_answers == 1


def test_running_jobs_are_reported_after_each_registration():
    jobs = [J1]
    protocol = new_protocol(jobs)
    register(protocol)
    (message,) = taken(protocol)
    assert list(message.migrate_job.job_ids) == [J1]
    protocol.disconnected()
    jobs.append(J2)
    register(protocol)
    (message,) = taken(protocol)
    assert list(message.migrate_job.job_ids) == [J1, J2]


def test_only_the_newest_load_is_sent_after_the_registration():
    protocol = new_protocol()
    for count in range(5):
        protocol.send(UpdateWorkerStatus(full=False, load=0.1, job_count=count))
    register(protocol)
    assert [message.update_worker.job_count for message in taken(protocol)] == [4]


def test_a_new_connection_is_told_the_load_again():
    protocol = registered()
    protocol.send(UpdateWorkerStatus(full=True, load=1.0, job_count=2))
    protocol.take()
    protocol.disconnected()
    register(protocol)
    assert [message.update_worker.job_count for message in taken(protocol)] == [2]


def test_the_load_is_repeated_on_request_only():
    protocol = registered()
    protocol.repeat_status()
    assert kinds(protocol) == []
    protocol.send(UpdateWorkerStatus(full=False, load=0.0, job_count=0))
    assert kinds(protocol) == ["update_worker"]
    assert kinds(protocol) == []
    protocol.repeat_status()
    assert kinds(protocol) == ["update_worker"]


def test_the_newest_update_of_each_job_survives_an_outage():
    protocol = registered()
    protocol.disconnected()
    for job_id, status in ((J1, "running"), (J2, "running"), (J1, "failed")):
        protocol.send(UpdateJobStatus(job_id=job_id, status=status))
    register(protocol)
    updates = [(m.update_job.job_id, m.update_job.status) for m in taken(protocol)]
    assert updates == [(J1, agent.JobStatus.JS_FAILED), (J2, agent.JobStatus.JS_RUNNING)]


def test_kept_job_updates_are_bounded(monkeypatch):
    monkeypatch.setattr(module, "JOB_UPDATES_LIMIT", 2)
    protocol = new_protocol()
    for job_id in (J1, J2, J3):
        protocol.send(UpdateJobStatus(job_id=job_id, status="running"))
    register(protocol)
    assert [message.update_job.job_id for message in taken(protocol)] == [J2, J3]
    assert protocol.counters.dropped_updates == 1


def test_remembered_offers_are_bounded(monkeypatch):
    monkeypatch.setattr(module, "OFFERS_LIMIT", 2)
    protocol = registered()
    for job_id in (J1, J2, J3):
        protocol.receive(offer(job_id))
        protocol.receive(offer(job_id))
    for job_id in (J1, J2, J3):
        protocol.send(answer(job_id))
    assert [message.availability.job_id for message in taken(protocol)] == [J2, J3]


def test_answers_leave_first():
    protocol = registered((J3,))
    protocol.send(UpdateWorkerStatus(full=False, load=0.0, job_count=0))
    protocol.send(WorkerPing(timestamp_ms=1))
    protocol.send(UpdateJobStatus(job_id=J2, status="running"))
    protocol.receive(offer(J1))
    protocol.send(answer(J1))
    assert kinds(protocol) == [
        "migrate_job",
        "availability",
        "update_job",
        "update_worker",
        "ping",
    ]


def test_what_livekit_says_about_jobs_is_passed_on():
    protocol = registered()
    assert protocol.receive(server(termination={"job_id": J1})) == (JobTermination(job_id=J1),)
    (assignment,) = protocol.receive(
        server(assignment={"job": {"id": J1}, "url": "ws://x", "token": "t"})
    )
    assert (assignment.job_id, assignment.url, assignment.token) == (J1, "ws://x", "t")


def test_unknown_messages_are_counted_and_survived():
    protocol = registered()
    assert protocol.receive(server()) == (UnknownMessage(kind="unknown"),)
    assert protocol.counters.unknown == 1
    with pytest.raises(ProtocolError):
        protocol.receive_text()
    assert protocol.counters.malformed == 1
    assert protocol.state is ProtocolState.REGISTERED


def ping(protocol):
    protocol.send(WorkerPing(timestamp_ms=1))
    assert kinds(protocol) == ["ping"]


def test_a_server_that_ceases_to_answer_pings_is_silent():
    protocol = registered()
    ping(protocol)
    protocol.receive(server(pong={"last_timestamp": 1}))
    for _ in range(PINGS_LIMIT):
        assert not protocol.silent
        ping(protocol)
    assert protocol.silent
    protocol.receive(server(pong={"last_timestamp": 1}))
    assert not protocol.silent


def test_a_server_that_never_answered_a_ping_is_not_silent():
    protocol = registered()
    for _ in range(PINGS_LIMIT + 1):
        ping(protocol)
    assert not protocol.silent


def test_no_ping_waits_for_a_connection():
    protocol = new_protocol()
    protocol.send(WorkerPing(timestamp_ms=1))
    register(protocol)
    assert kinds(protocol) == []


def test_messages_after_the_end_mean_nothing():
    protocol = registered()
    protocol.disconnected()
    assert protocol.receive(offer(J1)) == ()
    assert protocol.receive(b"\xff") == ()


def test_a_closed_protocol_takes_and_gives_nothing():
    protocol = registered()
    protocol.send(UpdateJobStatus(job_id=J1, status="running"))
    protocol.close()
    protocol.close()
    protocol.send(UpdateJobStatus(job_id=J2, status="running"))
    protocol.disconnected()
    assert protocol.state is ProtocolState.CLOSED
    assert not protocol.pending
    assert protocol.take() == []
    assert protocol.receive(offer(J1)) == ()


def test_two_connections_at_once_are_a_bug():
    protocol = registered()
    with pytest.raises(InvalidTransitionError):
        protocol.connected()
