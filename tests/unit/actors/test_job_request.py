"""Offers and what programs answer."""

import asyncio

import pytest
from livekit.agents import JobRequest
from livekit.protocol import agent

from voxray.actors.contracts import AcceptArguments, RequestAnswer
from voxray.actors.job_request import ask_program
from voxray.base.lifecycle import TaskOwner

JOB = agent.Job(id="AJ_1")


async def test_without_a_function_every_job_is_accepted() -> None:
    tasks = TaskOwner("test")
    answer = await ask_program(None, JOB, tasks)
    assert answer == RequestAnswer(accept=AcceptArguments(identity="agent-AJ_1"))
    await tasks.aclose()


async def test_what_the_function_gives_is_passed_on() -> None:
    async def accept(request: JobRequest) -> None:
        await request.accept(name="Ann", identity="ann", metadata="m", attributes={"k": "v"})

    tasks = TaskOwner("test")
    accepted = AcceptArguments(name="Ann", identity="ann", metadata="m", attributes={"k": "v"})
    assert await ask_program(accept, JOB, tasks) == RequestAnswer(accept=accepted)
    await tasks.aclose()


@pytest.mark.parametrize("terminate", [True, False])
async def test_a_rejection_says_whether_the_job_is_dropped(terminate: bool) -> None:
    async def reject(request: JobRequest) -> None:
        await request.reject(terminate=terminate)

    tasks = TaskOwner("test")
    answer = await ask_program(reject, JOB, tasks)
    assert answer == RequestAnswer(accept=None, terminate=terminate)
    await tasks.aclose()


async def test_the_first_answer_counts_and_what_follows_goes_on() -> None:
    released, over = asyncio.Event(), asyncio.Event()

    async def accept(request: JobRequest) -> None:
        await request.accept()
        await released.wait()
        await request.reject()
        over.set()

    tasks = TaskOwner("test")
    answer = await ask_program(accept, JOB, tasks)
    assert answer.accept is not None
    released.set()
    await over.wait()
    await tasks.aclose()


async def test_a_function_that_never_answers_is_cancelled() -> None:
    cancelled = asyncio.Event()

    async def hang(request: JobRequest) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    tasks = TaskOwner("test")
    answer = await ask_program(hang, JOB, tasks, timeout_s=0.01)
    assert answer == RequestAnswer(accept=None, error="request_fnc gave no answer within 0.01 s")
    await cancelled.wait()
    await tasks.aclose()
