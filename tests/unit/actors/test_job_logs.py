"""Whose a log line is."""

import asyncio
import contextvars
import logging
from collections.abc import Iterator

import pytest
from livekit.agents import AgentServer, JobContext
from livekit.agents.job import JobAcceptArguments, RunningJobInfo
from livekit.protocol import agent, models

from voxray.actors import livekit_compat as compat
from voxray.actors.job_logs import JobFields, mark_lines_of_jobs

FIELDS = ("job_id", "room", "room_id", "agent_name")
logger = logging.getLogger("program")


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[str, list[object]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        self.fields[record.getMessage()] = [getattr(record, name, None) for name in FIELDS]


@pytest.fixture
def handler() -> Iterator[Kept]:
    kept = Kept()
    logging.getLogger().addHandler(kept)
    mark_lines_of_jobs()
    yield kept
    logging.getLogger().removeHandler(kept)
    for other in logging.getLogger().handlers:
        for added in [each for each in other.filters if isinstance(each, JobFields)]:
            other.removeFilter(added)


async def entrypoint(ctx: JobContext) -> None:
    room = ctx.job.room.name
    await asyncio.sleep(0)
    logger.warning("in %s", room)
    await asyncio.to_thread(logger.warning, "in a thread of %s", room)
    logger.warning("its own of %s", room, extra={"room": "another"})
    ctx.shutdown()


async def run(room: str, agent_name: str) -> None:
    server = AgentServer()
    server.rtc_session(entrypoint)
    hooks = compat.read_hooks(server)
    assert hooks is not None
    job = agent.Job(id=f"AJ_{room}", room=models.Room(name=room, sid="RM_1"), agent_name=agent_name)
    info = RunningJobInfo(
        accept_arguments=JobAcceptArguments(name="", identity="a", metadata=""),
        job=job,
        url="ws://127.0.0.1:1",
        token="",
        worker_id="AW_1",
        fake_job=True,
    )
    driver = compat.JobDriver(hooks, info, entrypoint=entrypoint, userdata={}, executor=None)
    await asyncio.create_task(driver.run(), context=contextvars.copy_context())


async def test_lines_carry_the_job_that_wrote_them(handler: Kept) -> None:
    logger.warning("outside")
    await asyncio.gather(run("one", "clerk"), run("two", ""))
    one, two = ["AJ_one", "one", "RM_1", "clerk"], ["AJ_two", "two", "RM_1", None]
    for message in ("in {}", "in a thread of {}", "its own of {}"):
        assert handler.fields[message.format("one")] == one
        assert handler.fields[message.format("two")] == two
    assert handler.fields["outside"] == [None] * 4
