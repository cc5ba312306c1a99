from tests.fakes.dispatch_world import World
from voxray.actors.contracts import LoopBlocked, LoopFreed
from voxray.base.ids import HostId, JobId
from voxray.dispatcher import inputs as inp
from voxray.dispatcher.loop_reports import STORIES
from voxray.observability import events as ev

STACK = ("agent.py:3 in on_enter: look_up()", "agent.py:9 in look_up: time.sleep(2)")


def blocked(job_id: str | None, host: str = "h1") -> inp.LoopReported:
    return inp.LoopReported(
        host_id=HostId(host),
        report=LoopBlocked(
            job_id=JobId(job_id) if job_id else None, seconds=0.5, where=STACK[-1], stack=STACK
        ),
    )


def freed(job_id: str | None) -> inp.LoopReported:
    return inp.LoopReported(
        host_id=HostId("h1"),
        report=LoopFreed(job_id=JobId(job_id) if job_id else None, seconds=2.0),
    )


def test_a_block_is_told_of_and_in_the_story_of_its_job():
    world = World()
    world.advance(2.0)
    job_id = world.offer()
    world.advance(1.0)
    world.tell(blocked(job_id))
    world.tell(freed(job_id))
    (event,) = world.of(ev.LoopBlocked)
    assert (event.job_id, event.host_id, event.where) == (job_id, "h1", STACK[-1])
    assert event.stack == STACK
    assert world.of(ev.LoopFreed) == [ev.LoopFreed(host_id=HostId("h1"), job_id=job_id, seconds=2)]
    told = [entry.cause for entry in world.core.story(job_id)][-2:]
    assert "agent.py:9 in look_up: time.sleep(2)" in told[0]
    assert told[1] == "blocked the event loop of its host for 2.0 s"


def test_a_job_that_blocks_all_the_time_keeps_the_rest_of_its_story():
    world = World()
    world.advance(2.0)
    job_id = world.offer()
    world.advance(1.0)
    for _ in range(50):
        world.tell(blocked(job_id))
        world.tell(freed(job_id))
    story = world.core.story(job_id)
    assert story[0].cause == "offered"
    assert sum("blocks the event loop" in entry.cause for entry in story) == STORIES
    assert len(world.of(ev.LoopBlocked)) == 50


def test_a_block_of_nobody_is_told_of():
    world = World()
    world.tell(blocked(None))
    world.tell(freed("AJ_gone"))
    assert [event.job_id for event in world.of(ev.LoopBlocked)] == [None]
    assert len(world.of(ev.LoopFreed)) == 1
