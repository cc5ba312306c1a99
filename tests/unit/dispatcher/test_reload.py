"""A program that is being written: live calls begin anew with its new version."""

import pytest

from tests.fakes.dispatch_world import World, program
from voxray.base.settings import HostSettings
from voxray.dispatcher import commands as cmd
from voxray.dispatcher.jobs import JobState
from voxray.dispatcher.reload import CAUSE
from voxray.observability import events as ev


@pytest.fixture
def world():
    """A development app: one host, none to spare, and a call on it."""
    one = World(
        hosts=HostSettings(sessions_per_host=4, max_hosts=2, idle_hosts=0),
        info=program(version="v1"),
    )
    one.advance(1.5)
    return one


def running(one):
    job_id = one.offer()
    one.advance(2.0)
    return job_id, one.core._state.jobs.get(job_id)


def test_a_live_call_begins_anew_once_a_new_host_is_ready(world):
    job_id, job = running(world)
    old = job.host_id
    world.change_program("v2", relaunch=True)
    world.advance(world.start_s / 2)
    # Still with the old code: its caller is not left alone while the new one loads.
    assert (job.state, job.host_id) == (JobState.RUNNING, old)
    world.advance(world.start_s)
    (stop,) = world.of(cmd.StopJob)
    assert (stop.job_id, stop.host_id, stop.generation, stop.reason) == (job_id, old, 1, CAUSE)
    order = world.of(cmd.StartJob)[-1].order
    # Begun, not resumed: the program runs from its beginning.
    assert (order.job_id, order.generation, order.cause.value) == (job_id, 2, "new")
    assert world.hosts[world.of(cmd.StartJob)[-1].host_id].version == "v2"
    assert job.state is JobState.RUNNING
    assert not job.losses


def test_how_long_it_took_counts_from_the_reload(world):
    running(world)
    world.advance(600.0)
    world.change_program("v2", relaunch=True)
    world.advance(2.0)
    assert world.of(ev.JobRunning)[-1].seconds < 1.0


def test_many_saves_spend_no_resume_budget(world):
    job_id, job = running(world)
    for number in range(2, 9):
        world.change_program(f"v{number}", relaunch=True)
        world.advance(2.0)
    assert (job.state, job.generation) == (JobState.RUNNING, 8)
    assert world.present(job_id)


def test_a_version_that_does_not_start_leaves_calls_where_they_are(world):
    _, job = running(world)
    world.fail_starts = 1000
    world.change_program("v2", relaunch=True)
    world.advance(30.0)
    assert (job.state, job.generation) == (JobState.RUNNING, 1)
    world.fail_starts = 0
    world.change_program("v3", relaunch=True)
    world.advance(90.0)
    assert (job.state, job.generation) == (JobState.RUNNING, 2)


def test_a_job_that_is_ending_is_let_go(world):
    job_id, job = running(world)
    world.lose_stops = 1
    world.core._supervisor.stop(job, "asked for")
    world.change_program("v2", relaunch=True)
    world.advance(3.0)
    assert len(world.of(cmd.StartJob)) == 1
    world.finish(job_id)
    world.advance(0.5)
    assert world.core._state.jobs.get(job_id) is None
