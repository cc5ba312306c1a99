"""Jobs of our own: as any other, except that LiveKit is told nothing."""

from tests.fakes.dispatch_world import World
from voxray.base.settings import HostSettings
from voxray.dispatcher import commands as cmd
from voxray.dispatcher import inputs as inp
from voxray.dispatcher.jobs import JobState


def world(**changes):
    fields = {"sessions_per_host": 1, "max_hosts": 1, "idle_hosts": 0}
    one = World(hosts=HostSettings(**(fields | changes)))
    one.advance(1.5)
    return one


def told_of(one, job_id):
    return [
        each for each in one.of(cmd.UpdateJob | cmd.AnswerAvailability) if each.job_id == job_id
    ]


def test_it_starts_at_once_and_livekit_hears_nothing_of_it():
    one = world()
    job_id = one.simulate()
    order = one.of(cmd.StartJob)[-1].order
    assert (order.accept.identity, order.token, order.simulated) == (
        "agent-me",
        "signed by us",
        True,
    )
    one.advance(1.0)
    assert one.core._state.jobs.get(job_id).state is JobState.RUNNING
    one.finish(job_id)
    one.advance(0.5)
    assert told_of(one, job_id) == []
    (summary,) = one.core.jobs()
    assert (summary.job_id, summary.outcome, summary.room) == (job_id, "success", f"room-{job_id}")


def test_it_holds_a_slot():
    one = world()
    one.simulate()
    refused = one.offer()
    assert [each.available for each in told_of(one, refused)] == [False]


def test_it_waits_for_a_slot():
    one = world()
    first = one.offer()
    one.advance(1.0)
    second = one.simulate()
    assert [job.job_id for job in one.core.jobs()] == [first, second]
    one.finish(first)
    one.advance(1.0)
    assert one.core._state.jobs.get(second).state is JobState.RUNNING


def test_it_outlives_its_host():
    one = world(max_hosts=2)
    job_id = one.simulate()
    one.advance(1.0)
    one.kill(one.core._state.jobs.get(job_id).host_id)
    one.advance(5.0)
    job = one.core._state.jobs.get(job_id)
    assert (job.state, job.generation) == (JobState.RUNNING, 2)
    assert told_of(one, job_id) == []


def test_a_dispatcher_that_finds_it_tells_livekit_nothing_either():
    one = world()
    job_id = one.simulate()
    one.advance(1.0)
    one.restart()
    one.advance(1.0)
    one.finish(job_id)
    one.advance(0.5)
    assert one.core.jobs()[0].outcome == "success"
    assert told_of(one, job_id) == []


def test_none_is_begun_while_we_drain():
    one = world()
    one.tell(inp.Drain(timeout_s=5.0))
    job_id = one.simulate()
    assert one.core._state.jobs.get(job_id) is None
    assert not one.of(cmd.StartJob)
