"""Between the core's words and those of LiveKit's worker protocol. Pure."""

from collections.abc import Callable
from typing import TypeAlias, assert_never

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

WorkerCommand: TypeAlias = cmd.AnswerAvailability | cmd.UpdateWorker | cmd.UpdateJob


def intent_of(command: WorkerCommand) -> Intent:
    """Return what is to be sent to LiveKit for a command."""
    match command:
        case cmd.AnswerAvailability(job_id=job_id, accept=accept):
            if accept is None:
                return AvailabilityResponse(
                    job_id=job_id, available=False, terminate=command.terminate
                )
            return AvailabilityResponse(
                job_id=job_id,
                available=True,
                identity=accept.identity,
                name=accept.name,
                metadata=accept.metadata,
                attributes=dict(accept.attributes),
            )
        case cmd.UpdateWorker():
            return UpdateWorkerStatus(
                full=command.full, load=command.load, job_count=command.job_count
            )
        case cmd.UpdateJob():
            return UpdateJobStatus(
                job_id=command.job_id, status=command.status, error=command.error
            )
        case _:
            assert_never(command)


def input_of(
    event: WorkerEvent,
    received_at: float,
    url: str,
    begin_trace: Callable[[AvailabilityRequest], str],
) -> inp.Input | None:
    """Return what the core is told for a message of LiveKit's, or None for nothing.

    Args:
        event: the message.
        received_at: Unix seconds.
        url: the server that we are connected to; an assignment without a URL means it.
        begin_trace: begins the trace of an offer's call; returns its `traceparent`.
    """
    match event:
        case Registered(worker_id=worker_id):
            return inp.WorkerRegistered(worker_id=worker_id)
        case AvailabilityRequest():
            return inp.Offered(
                job_id=event.job_id,
                room=event.room,
                job=event.job,
                received_at=received_at,
                metadata=event.metadata,
                traceparent=begin_trace(event),
                origin=event.origin,
            )
        case JobAssignment():
            return inp.Assigned(job_id=event.job_id, url=event.url or url, token=event.token)
        case JobTermination(job_id=job_id):
            return inp.Terminated(job_id=job_id)
        case Disconnected(reason=reason):
            return inp.WorkerDisconnected(reason=reason)
        case ConnectionEnded():
            return None
        case _:
            assert_never(event)
