import pytest

from tests.fakes.dispatch_world import World, endpoint
from voxray.actors.contracts import HostSnapshot, JobPhase, JobStatus
from voxray.base.settings import HostSettings
from voxray.dispatcher import commands as cmd
from voxray.dispatcher import inputs as inp
from voxray.dispatcher.jobs import JobState
from voxray.dispatcher.supervisor import STOP_AGAIN_S
from voxray.observability import events as ev


def running(jobs=1, **changes):
    """Return a world with two hosts and some running jobs, all on the first host."""
    fields = {"sessions_per_host": 4, "min_hosts": 2, "max_hosts": 3, "idle_hosts": 0}
    one = World(hosts=HostSettings(**(fields | changes)))
    one.advance(1.5)
    ids = [one.offer() for _ in range(jobs)]
    one.advance(2.0)
    return one, ids


def live(one, job_id):
    return one.core._state.jobs.get(job_id)


def test_a_job_is_running_once_it_is_heard():
    one, (job_id,) = running()
    assert live(one, job_id).state is JobState.RUNNING
    event = one.of(ev.JobRunning)[0]
    assert (event.generation, event.cause) == (1, "new")
    assert event.seconds == pytest.approx(0.02 + 0.3, abs=0.01)
    assert [each.status for each in one.of(cmd.UpdateJob)] == ["running"]


@pytest.mark.parametrize("outcome", ["success", "failed"])
def test_an_end_is_told_to_livekit_and_frees_the_slot(outcome):
    one, (job_id,) = running()
    one.finish(job_id, outcome)
    one.advance(0.1)
    assert live(one, job_id) is None
    assert one.of(ev.JobEnded)[0].outcome == outcome
    assert one.core.snapshot().totals.used == 0
    assert [each.status for each in one.of(cmd.UpdateJob)] == ["running", outcome]


def test_the_end_of_a_job_that_was_never_in_its_room_is_told():
    one, _ = running(jobs=0)
    job_id = one.offer()
    one.advance(0.1)
    assert not live(one, job_id).connected
    one.finish(job_id, "failed")
    one.advance(0.1)
    assert [each.status for each in one.of(cmd.UpdateJob)][-1] == "failed"


def test_a_dead_host_s_jobs_resume_elsewhere():
    one, (job_id,) = running()
    dead = live(one, job_id).host_id
    one.clock.now += 0.0
    one.kill(dead)
    one.advance(1.0)
    job = live(one, job_id)
    assert (job.state, job.generation) == (JobState.RUNNING, 2)
    assert job.host_id != dead
    start = one.of(cmd.StartJob)[1]
    assert start.resign_token
    assert (start.order.generation, start.order.cause) == (2, "resume")
    assert start.order.accept == one.of(cmd.StartJob)[0].order.accept
    assert [each.kind for each in one.of(ev.HostLost)] == ["host_died"]
    done = one.of(ev.FailoverDone)[0]
    assert (done.kind, done.outcome, done.from_host, done.to_host, done.generation) == (
        "host_died",
        "resumed",
        dead,
        job.host_id,
        2,
    )
    assert done.traceparent == "00-1-2-01"
    assert 0.0 < done.detection_s <= 0.25 + 0.03
    assert done.gap_s == pytest.approx(done.detection_s + 0.3, abs=0.01)


def test_a_silent_host_is_lost_with_its_lease():
    one, (job_id,) = running()
    dead = live(one, job_id).host_id
    one.hang(dead)
    one.advance(1.7)
    assert live(one, job_id).host_id == dead
    one.advance(1.0)
    assert live(one, job_id).state is JobState.RUNNING
    assert cmd.StopHost(host_id=dead, force=True) in one.commands
    done = one.of(ev.FailoverDone)[0]
    assert (done.kind, done.detection_s) == ("host_silent", pytest.approx(2.0))
    assert done.gap_s == pytest.approx(2.3, abs=0.01)


def test_jobs_of_one_host_are_spread_over_the_others():
    one, ids = running(jobs=4, min_hosts=3, max_hosts=3)
    one.kill(live(one, ids[0]).host_id)
    one.advance(1.0)
    hosts = [live(one, job_id).host_id for job_id in ids]
    assert sorted(map(hosts.count, set(hosts))) == [2, 2]


def test_a_job_that_nobody_heard_yet_is_begun_anew():
    one, _ = running(jobs=0)
    job_id = one.offer()
    one.advance(0.1)
    one.kill(live(one, job_id).host_id)
    one.advance(1.0)
    order = one.of(cmd.StartJob)[1].order
    assert (order.generation, order.cause) == (2, "new")
    assert one.of(ev.JobRunning)[0].seconds < 1.0


def test_a_job_that_kills_its_hosts_is_failed_with_its_story():
    one, (job_id,) = running(min_hosts=3, max_hosts=9, idle_hosts=2)
    for _ in range(4):
        one.kill(live(one, job_id).host_id)
        one.advance(4.0)
    assert live(one, job_id) is None
    ended = one.of(ev.JobEnded)[0]
    assert ended.outcome == "failed"
    assert "lost more than 3 times in 60 s" in ended.reason
    assert [each.outcome for each in one.of(ev.FailoverDone)] == ["resumed"] * 3 + ["failed"]
    assert one.of(cmd.UpdateJob)[-1].status == "failed"
    story = [str(entry) for entry in one.core.story(job_id)]
    assert sum("host_died" in line for line in story) == 4


def test_losses_long_ago_do_not_count():
    one, (job_id,) = running(min_hosts=3, max_hosts=9, idle_hosts=2)
    for _ in range(6):
        one.kill(live(one, job_id).host_id)
        one.advance(25.0)
    assert live(one, job_id).generation == 7


def test_a_resume_waits_for_a_slot_and_comes_before_new_offers():
    one, ids = running(jobs=2, sessions_per_host=1, max_hosts=2)
    one.kill(live(one, ids[0]).host_id)
    one.advance(0.1)
    assert live(one, ids[0]).state is JobState.RESUMING
    assert one.core.snapshot().totals.waiting_jobs == 1
    one.offer()
    one.advance(3.0)
    assert live(one, ids[0]).state is JobState.RUNNING
    assert [each.outcome for each in one.of(ev.JobAnswered)] == ["accepted", "accepted", "full"]


def test_a_resume_does_not_wait_for_ever():
    one, ids = running(jobs=1, min_hosts=1, max_hosts=1)
    one.fail_starts = 100
    one.kill(live(one, ids[0]).host_id)
    one.advance(29.0)
    assert live(one, ids[0]) is not None
    one.advance(2.0)
    assert one.of(ev.JobEnded)[0].outcome == "failed"
    done = one.of(ev.FailoverDone)[0]
    assert (done.outcome, done.to_host) == ("failed", None)


def test_a_refused_start_goes_to_another_host():
    one, _ = running(jobs=0)
    one.fail_job_starts = 1
    job_id = one.offer()
    one.advance(1.0)
    first, second = one.of(cmd.StartJob)
    assert first.host_id != second.host_id
    assert second.order.cause == "new"
    # Whatever the first one made of it must not go on.
    assert [(each.host_id, each.generation) for each in one.of(cmd.StopJob)] == [(first.host_id, 1)]
    assert live(one, job_id).state is JobState.RUNNING


def test_the_only_host_gets_a_second_chance_after_a_pause():
    one, _ = running(jobs=0, min_hosts=1, max_hosts=1)
    one.fail_job_starts = 1
    one.offer()
    one.advance(1.5)
    assert len(one.of(cmd.StartJob)) == 1
    one.advance(1.0)
    assert len(one.of(cmd.StartJob)) == 2


def test_a_start_that_failed_after_the_job_was_heard_of_is_no_failure():
    one, (job_id,) = running()
    job = live(one, job_id)
    failed = inp.JobStartFailed(host_id=job.host_id, job_id=job_id, generation=1, reason="deadline")
    assert one.tell(failed) == []
    assert live(one, job_id).state is JobState.RUNNING


def test_reports_of_an_older_generation_change_nothing():
    one, (job_id,) = running()
    dead = live(one, job_id).host_id
    one.kill(dead)
    one.advance(1.0)
    before = one.core.snapshot().totals.stale_reports
    ended = JobStatus(job_id=job_id, generation=1, phase=JobPhase.ENDED, outcome="failed")
    one.tell(inp.JobReported(host_id=dead, status=ended))
    one.tell(inp.JobReported(host_id=live(one, job_id).host_id, status=ended))
    assert live(one, job_id).state is JobState.RUNNING
    assert one.core.snapshot().totals.stale_reports == before + 2


def test_a_host_that_runs_what_is_not_its_own_is_told_to_stop():
    one, (job_id,) = running()
    other = next(each for each in one.living() if not each.orders)
    status = JobStatus(job_id=job_id, generation=1, phase=JobPhase.RUNNING)
    commands = one.tell(inp.JobReported(host_id=other.host_id, status=status))
    assert commands == [
        cmd.StopJob(host_id=other.host_id, job_id=job_id, generation=1, reason="superseded")
    ]


def test_phases_only_go_forward():
    one, (job_id,) = running()
    host_id = live(one, job_id).host_id
    for phase in (JobPhase.CONNECTED, JobPhase.RUNNING, JobPhase.STARTING):
        late = JobStatus(job_id=job_id, generation=1, phase=phase)
        assert one.tell(inp.JobReported(host_id=host_id, status=late)) == []
    assert len(one.of(ev.JobRunning)) == 1


def test_a_stopped_job_is_not_resumed():
    one, (job_id,) = running()
    host_id = live(one, job_id).host_id
    one.hang(host_id)
    one.tell(inp.Terminated(job_id=job_id))
    assert len(one.of(cmd.StopJob)) == 1
    assert one.core.snapshot().totals.used == 1
    one.advance(3.0)
    assert one.of(ev.JobEnded)[0].outcome == "lost"
    assert len(one.of(cmd.StartJob)) == 1


def test_a_restarted_dispatcher_adopts_what_runs():
    one, ids = running(jobs=2)
    one.kill(live(one, ids[0]).host_id)
    one.advance(1.0)
    generations = {job_id: live(one, job_id).generation for job_id in ids}
    one.restart()
    one.advance(0.2)
    for job_id in ids:
        job = live(one, job_id)
        assert (job.state, job.generation) == (JobState.RUNNING, generations[job_id])
        assert job.room == f"room-{job_id}"
    assert one.core.snapshot().totals.used == 2
    assert not one.of(cmd.StartJob)
    assert not one.of(cmd.StopJob)
    # And keeps them alive as if it had placed them itself.
    one.kill(live(one, ids[0]).host_id)
    one.advance(1.0)
    order = one.of(cmd.StartJob)[0].order
    assert (order.generation, order.cause, order.token) == (3, "resume", f"token-{order.job_id}")


def test_of_two_hosts_with_one_job_the_newer_generation_owns_it():
    one, (job_id,) = running()
    first = live(one, job_id).host_id
    other = next(each.host_id for each in one.living() if each.host_id != first)
    order = one.hosts[first].orders[job_id].model_copy(update={"generation": 5})
    status = JobStatus(job_id=job_id, generation=5, phase=JobPhase.RUNNING)
    snapshot = HostSnapshot(
        host_id=other, endpoint=endpoint(other), capacity=4, orders=(order,), statuses=(status,)
    )
    commands = one.tell(inp.HostSnapshotReceived(snapshot=snapshot))
    assert cmd.StopJob(host_id=first, job_id=job_id, generation=1, reason="superseded") in commands
    job = live(one, job_id)
    assert (job.host_id, job.generation, job.state) == (other, 5, JobState.RUNNING)
    # The old one's snapshot does not win it back.
    commands = one.core.handle(
        inp.HostSnapshotReceived(
            snapshot=snapshot.model_copy(
                update={"host_id": first, "orders": (order.model_copy(update={"generation": 1}),)}
            )
        )
    )
    assert cmd.StopJob(host_id=first, job_id=job_id, generation=1, reason="superseded") in commands
    assert live(one, job_id).host_id == other


def test_a_job_missing_from_a_new_snapshot_has_ended():
    one, (job_id,) = running()
    host = one.hosts[live(one, job_id).host_id]
    host.orders.clear()
    host.statuses.clear()
    one.watch(host.host_id)
    assert live(one, job_id) is None
    assert one.of(ev.JobEnded)[0].outcome == "lost"


def test_a_lost_order_to_end_is_given_again_and_counted():
    one, (job_id,) = running()
    one.lose_stops = 2
    one.tell(inp.Terminated(job_id=job_id))
    one.advance(STOP_AGAIN_S - 0.1)
    assert len(one.of(cmd.StopJob)) == 1
    one.advance(0.2)
    assert [each.attempt for each in one.of(ev.StopRepeated)] == [2]
    assert live(one, job_id) is not None
    # The second one is lost as well; the third waits longer, for all the time of a shutdown.
    one.advance(19.7)
    assert len(one.of(cmd.StopJob)) == 2
    one.advance(0.4)
    assert live(one, job_id) is None
    assert len({(each.job_id, each.generation) for each in one.of(cmd.StopJob)}) == 1
    assert [each.outcome for each in one.of(ev.JobEnded)] == ["success"]


def test_an_end_that_takes_its_time_is_not_hurried_beyond_the_program_s_limits():
    one, (job_id,) = running()
    one.lose_stops = 1000
    one.tell(inp.Terminated(job_id=job_id))
    one.advance(600.0)
    assert live(one, job_id).stop_reason
    # Twice as long each time, up to the 20 s that this program has for its shutdown.
    assert len(one.of(cmd.StopJob)) == 1 + 1 + int((600 - STOP_AGAIN_S) // 20)


def test_a_program_that_never_joins_is_left_alone_and_its_story_says_so():
    one = World(hosts=HostSettings(idle_hosts=0))
    one.advance(1.5)
    host_id = one.living()[0].host_id
    one._phase = lambda *_: None
    job_id = one.offer()
    one.advance(9.0)
    assert "not in its room" not in str(one.core.story(job_id)[-1])
    one.advance(60.0)
    assert "not in its room 10 s after its start" in str(one.core.story(job_id)[-1])
    assert (live(one, job_id).state, live(one, job_id).host_id) == (JobState.STARTING, host_id)
    assert not one.of(cmd.StopJob)
