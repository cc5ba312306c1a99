"""Asks the program whether it takes an offered job."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from livekit.agents import JobRequest
from livekit.agents.job import JobAcceptArguments
from livekit.protocol import agent

from voxray.actors.contracts import STANDS_IN, AcceptArguments, RequestAnswer
from voxray.base.lifecycle import TaskOwner

logger = logging.getLogger(__name__)

# LiveKit drops a job whose availability answer takes 3 s; the answer has a way to go.
ANSWER_TIMEOUT_S = 2.0


def read_job(data: bytes) -> agent.Job:
    """Return a serialised job as the program is to see it."""
    job = agent.Job.FromString(data)
    job.attributes.pop(STANDS_IN, None)
    return job


async def ask_program(
    request_fnc: Callable[[JobRequest], Awaitable[None]] | None,
    job: agent.Job,
    tasks: TaskOwner,
    *,
    timeout_s: float = ANSWER_TIMEOUT_S,
) -> RequestAnswer:
    """Run a program's `request_fnc` and return its first answer.

    As in a stock worker: no answer of its own rejects and lets LiveKit ask another worker, and
    so does an exception. What the function does after its answer goes on in the background.

    Args:
        request_fnc: the program's function; None accepts every job.
        job: the offered job.
        tasks: owns the function's task.
        timeout_s: after this long without an answer the function is cancelled.
    """
    answered: asyncio.Future[RequestAnswer] = asyncio.get_running_loop().create_future()

    def answer(given: RequestAnswer) -> None:
        if not answered.done():
            answered.set_result(given)

    async def on_accept(arguments: JobAcceptArguments) -> None:
        answer(
            RequestAnswer(
                accept=AcceptArguments(
                    name=arguments.name,
                    identity=arguments.identity,
                    metadata=arguments.metadata,
                    attributes=arguments.attributes or {},
                )
            )
        )

    async def on_reject(terminate: bool) -> None:
        answer(RequestAnswer(accept=None, terminate=terminate))

    async def run(request: JobRequest) -> None:
        try:
            if request_fnc is None:
                await request.accept()
            else:
                await request_fnc(request)
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            logger.exception("request_fnc failed", extra={"job_id": request.id})
            answer(RequestAnswer(accept=None, error=f"{type(error).__name__}: {error}"))
        else:
            answer(RequestAnswer(accept=None, error="request_fnc gave no answer"))

    request = JobRequest(job=job, on_reject=on_reject, on_accept=on_accept)
    task = tasks.spawn(f"request:{job.id}", run(request))
    try:
        async with asyncio.timeout(timeout_s):
            return await answered
    except TimeoutError:
        task.cancel()
        return RequestAnswer(accept=None, error=f"request_fnc gave no answer within {timeout_s} s")
