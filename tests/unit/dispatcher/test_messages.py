"""The bytes of worker messages: what LiveKit reads of ours, and what we read of LiveKit's."""

import pytest
from livekit.protocol import agent, models

from voxray.base.errors import ProtocolError
from voxray.base.ids import JobId
from voxray.dispatcher.messages import (
    AvailabilityRequest,
    AvailabilityResponse,
    JobAssignment,
    JobTermination,
    MigrateJobRequest,
    RegisterWorkerRequest,
    RegisterWorkerResponse,
    UnknownMessage,
    UpdateJobStatus,
    UpdateWorkerStatus,
    WorkerPing,
    WorkerPong,
    decode,
    encode,
)


def wire(message):
    return agent.WorkerMessage.FromString(encode(message))


def test_registration_carries_the_program_and_marks_an_agent():
    permissions = models.ParticipantPermission(can_publish=True, hidden=True).SerializeToString()
    register = wire(
        RegisterWorkerRequest(
            worker_type=agent.JobType.JT_PUBLISHER,
            agent_name="desk",
            version="1.8.9",
            permissions=permissions,
            deployment="blue",
        )
    ).register
    assert register.type == agent.JobType.JT_PUBLISHER
    assert (register.agent_name, register.version, register.deployment) == ("desk", "1.8.9", "blue")
    assert register.allowed_permissions == models.ParticipantPermission(
        can_publish=True, hidden=True, agent=True
    )


def test_an_available_answer_says_how_the_agent_joins():
    answer = wire(
        AvailabilityResponse(
            job_id=JobId("AJ_1"),
            available=True,
            identity="agent-1",
            name="Desk",
            metadata="{}",
            attributes={"k": "v"},
        )
    ).availability
    assert (answer.job_id, answer.available, answer.terminate) == ("AJ_1", True, False)
    assert answer.participant_identity == "agent-1"
    assert answer.participant_name == "Desk"
    assert answer.participant_metadata == "{}"
    assert dict(answer.participant_attributes) == {"k": "v"}


def test_a_refusal_can_end_the_job():
    answer = wire(
        AvailabilityResponse(job_id=JobId("AJ_1"), available=False, terminate=True)
    ).availability
    assert (answer.available, answer.terminate) == (False, True)


@pytest.mark.parametrize(
    ("full", "status"),
    [(True, agent.WorkerStatus.WS_FULL), (False, agent.WorkerStatus.WS_AVAILABLE)],
)
def test_worker_status(full, status):
    update = wire(UpdateWorkerStatus(full=full, load=0.25, job_count=3)).update_worker
    assert (update.status, update.load, update.job_count) == (status, 0.25, 3)


@pytest.mark.parametrize(
    ("status", "number"),
    [
        ("running", agent.JobStatus.JS_RUNNING),
        ("success", agent.JobStatus.JS_SUCCESS),
        ("failed", agent.JobStatus.JS_FAILED),
    ],
)
def test_job_status(status, number):
    update = wire(UpdateJobStatus(job_id=JobId("AJ_1"), status=status, error="why")).update_job
    assert (update.job_id, update.status, update.error) == ("AJ_1", number, "why")


def test_ping_and_running_jobs():
    assert wire(WorkerPing(timestamp_ms=7)).ping.timestamp == 7
    migrate = wire(MigrateJobRequest(job_ids=(JobId("AJ_1"), JobId("AJ_2")))).migrate_job
    assert list(migrate.job_ids) == ["AJ_1", "AJ_2"]


def test_what_livekit_sends_is_read():
    job = agent.Job(id="AJ_1", room=models.Room(name="r"), metadata="secret")
    cases = [
        (
            agent.ServerMessage(
                register={"worker_id": "AW", "server_info": {"version": "1.13.5", "region": "eu"}}
            ),
            RegisterWorkerResponse(worker_id="AW", server_version="1.13.5", region="eu"),
        ),
        (
            agent.ServerMessage(availability={"job": job, "resuming": True}),
            AvailabilityRequest(
                job_id=JobId("AJ_1"),
                room="r",
                job=job.SerializeToString(),
                resuming=True,
                metadata="secret",
            ),
        ),
        (
            agent.ServerMessage(assignment={"job": job, "url": "ws://x", "token": "t"}),
            JobAssignment(job_id=JobId("AJ_1"), url="ws://x", token="t"),
        ),
        (
            agent.ServerMessage(termination={"job_id": "AJ_1"}),
            JobTermination(job_id=JobId("AJ_1")),
        ),
        (agent.ServerMessage(pong={"last_timestamp": 5}), WorkerPong(last_timestamp_ms=5)),
        (agent.ServerMessage(go_away={"reason": "x"}), UnknownMessage(kind="go_away")),
        (agent.ServerMessage(), UnknownMessage(kind="unknown")),
    ]
    for message, expected in cases:
        assert decode(message.SerializeToString()) == expected


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff",
        agent.ServerMessage(register={}).SerializeToString(),
        agent.ServerMessage(availability={}).SerializeToString(),
        agent.ServerMessage(termination={}).SerializeToString(),
        agent.ServerMessage(assignment={"job": {"id": "AJ_1"}}).SerializeToString(),
        agent.ServerMessage(assignment={"token": "t"}).SerializeToString(),
    ],
)
def test_what_can_not_be_used_is_a_protocol_error(data):
    with pytest.raises(ProtocolError):
        decode(data)


def test_nothing_of_a_call_shows_in_a_representation():
    job = agent.Job(id="AJ_1", room=models.Room(name="r"), metadata="confidential")
    offer = decode(agent.ServerMessage(availability={"job": job}).SerializeToString())
    assignment = decode(
        agent.ServerMessage(assignment={"job": job, "token": "confidential"}).SerializeToString()
    )
    assert "confidential" not in f"{offer!r}{assignment!r}"
