"""Every word of the core has its LiveKit message, and every LiveKit event its input."""

import pytest

from voxray.actors.contracts import AcceptArguments
from voxray.base.errors import ConnectionFailedError
from voxray.base.ids import JobId
from voxray.dispatcher import commands as cmd
from voxray.dispatcher import inputs as inp
from voxray.dispatcher.connection import ConnectionEnded, Disconnected, WorkerEvent
from voxray.dispatcher.messages import (
    AvailabilityRequest,
    AvailabilityResponse,
    JobAssignment,
    JobTermination,
    UpdateJobStatus,
    UpdateWorkerStatus,
)
from voxray.dispatcher.protocol import Intent, Registered
from voxray.dispatcher.translation import WorkerCommand, input_of, intent_of

JOB = JobId("AJ_1")
ACCEPT = AcceptArguments(identity="agent", name="n", metadata="m", attributes={"a": "b"})


@pytest.mark.parametrize(
    ("command", "intent"),
    [
        (
            cmd.AnswerAvailability(job_id=JOB, accept=ACCEPT),
            AvailabilityResponse(
                job_id=JOB,
                available=True,
                identity="agent",
                name="n",
                metadata="m",
                attributes={"a": "b"},
            ),
        ),
        (
            cmd.AnswerAvailability(job_id=JOB, accept=None, terminate=True),
            AvailabilityResponse(job_id=JOB, available=False, terminate=True),
        ),
        (
            cmd.UpdateWorker(full=True, load=0.3, job_count=2),
            UpdateWorkerStatus(full=True, load=0.3, job_count=2),
        ),
        (
            cmd.UpdateJob(job_id=JOB, status="failed", error="why"),
            UpdateJobStatus(job_id=JOB, status="failed", error="why"),
        ),
    ],
)
def test_commands(command: WorkerCommand, intent: Intent) -> None:
    assert intent_of(command) == intent


@pytest.mark.parametrize(
    ("event", "item"),
    [
        (
            Registered(worker_id="AW_1", server_version="1", region="", reconnect=True),
            inp.WorkerRegistered(worker_id="AW_1"),
        ),
        (Disconnected(reason="gone"), inp.WorkerDisconnected(reason="gone")),
        (
            AvailabilityRequest(job_id=JOB, room="r", job=b"x", resuming=False),
            inp.Offered(job_id=JOB, room="r", job=b"x", received_at=12.0, traceparent="trace-AJ_1"),
        ),
        (
            JobAssignment(job_id=JOB, url="ws://x", token="t"),
            inp.Assigned(job_id=JOB, url="ws://x", token="t"),
        ),
        (
            JobAssignment(job_id=JOB, url="", token="t"),
            inp.Assigned(job_id=JOB, url="ws://here", token="t"),
        ),
        (JobTermination(job_id=JOB), inp.Terminated(job_id=JOB)),
        (ConnectionEnded(error=ConnectionFailedError("x")), None),
    ],
)
def test_events(event: WorkerEvent, item: inp.Input | None) -> None:
    assert input_of(event, 12.0, "ws://here", lambda request: f"trace-{request.job_id}") == item
