"""One call and hosts that die at any moment of it."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.dispatch_world import World
from voxray.base.settings import HostSettings
from voxray.dispatcher import commands as cmd
from voxray.dispatcher.jobs import JobState
from voxray.observability import events as ev

deaths = st.lists(
    st.tuples(st.floats(0.0, 4.0), st.sampled_from(["kill", "hang", "cut"])), max_size=6
)


@settings(max_examples=60, deadline=None)
@given(deaths, st.integers(0, 4))
def test_the_call_runs_or_was_failed_for_a_reason(losses, budget):
    world = World(
        hosts=HostSettings(
            min_hosts=3, max_hosts=12, idle_hosts=3, resume_budget=budget, heartbeat_s=0.5
        )
    )
    world.advance(2.0)
    job_id = world.offer()
    for pause, how in losses:
        world.advance(pause)
        job = world.core._state.jobs.get(job_id)
        if job is not None and job.host_id is not None:
            getattr(world, how)(job.host_id)
    world.advance(40.0)

    orders = [each.order for each in world.of(cmd.StartJob)]
    assert [order.generation for order in orders] == list(range(1, len(orders) + 1))
    assert len({order.accept.identity for order in orders}) == 1
    causes = ("host_died", "host_silent", "start failed")
    lost = [each for each in world.core.story(job_id) if any(one in each.cause for one in causes)]
    job = world.core._state.jobs.get(job_id)
    if job is None:
        (ended,) = world.of(ev.JobEnded)
        # Only a budget that is spent ends a call that nobody ended.
        assert ended.outcome == "failed"
        assert len(lost) == budget + 1
    else:
        assert job.state is JobState.RUNNING
        assert len(orders) - 1 == len(lost) <= budget
        assert sum(job_id in host.orders for host in world.living() if not host.cut) == 1
    for done in world.of(ev.FailoverDone):
        assert 0.0 <= done.detection_s <= done.gap_s
