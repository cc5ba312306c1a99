import pytest

from tests.fakes.dispatch_world import World, program
from voxray.base.settings import HostSettings
from voxray.dispatcher import commands as cmd
from voxray.dispatcher import inputs as inp
from voxray.observability import events as ev


def running(jobs=2, **changes):
    fields = {"sessions_per_host": 4, "min_hosts": 2, "max_hosts": 3, "idle_hosts": 0}
    one = World(hosts=HostSettings(**(fields | changes)))
    one.advance(2.5)
    ids = [one.offer() for _ in range(jobs)]
    one.advance(1.0)
    return one, ids


def test_a_drain_waits_for_the_calls_then_stops_everything_once():
    one, ids = running()
    one.tell(inp.Drain(timeout_s=60.0))
    assert one.of(cmd.UpdateWorker)[-1].full
    one.offer()
    assert one.of(ev.JobAnswered)[-1].outcome == "draining"
    one.advance(30.0)
    assert not one.of(cmd.StopJob)
    for job_id in ids:
        one.finish(job_id)
    one.advance(1.0)
    assert one.drained == 1
    order = [type(each) for each in one.commands if not isinstance(each, cmd.EmitEvent)]
    assert order.index(cmd.StopHost) < order.index(cmd.StopReplica) < order.index(cmd.Drained)
    assert not any(each.force for each in one.of(cmd.StopHost))
    assert not one.of(ev.HostLost)
    assert one.core.next_deadline() is None


def test_a_drain_of_an_idle_app_is_over_at_once():
    one, _ = running(jobs=0)
    one.tell(inp.Drain(timeout_s=60.0))
    one.advance(0.5)
    assert one.drained == 1


def test_calls_are_stopped_when_the_drain_s_time_is_over():
    one, ids = running()
    one.tell(inp.Drain(timeout_s=10.0))
    one.advance(10.5)
    assert [each.job_id for each in one.of(cmd.StopJob)] == ids
    assert {each.outcome for each in one.of(ev.JobEnded)} == {"success"}
    assert one.drained == 1


def test_a_shorter_drain_wins():
    one, _ = running()
    one.tell(inp.Drain(timeout_s=100.0))
    one.tell(inp.Drain(timeout_s=5.0))
    one.tell(inp.Drain(timeout_s=100.0))
    one.advance(6.0)
    assert one.drained == 1


def test_calls_that_do_not_end_are_given_up():
    one, ids = running()
    for host in one.hosts.values():
        host.orders.clear()
    one.tell(inp.Drain(timeout_s=1.0))
    one.advance(25.9)
    assert one.drained == 0
    one.advance(1.0)
    assert one.drained == 1
    assert [each.outcome for each in one.of(ev.JobEnded)] == ["lost"] * len(ids)
    assert all(each.force for each in one.of(cmd.StopHost))


def test_stop_now_cuts_everything():
    one, _ = running()
    one.tell(inp.ShutdownNow())
    assert {each.host_id for each in one.of(cmd.StopHost)} == set(one.hosts)
    assert all(each.force for each in one.of(cmd.StopHost))
    assert [each.status for each in one.of(cmd.UpdateJob)[-2:]] == ["failed", "failed"]
    one.advance(0.5)
    assert one.drained == 1
    assert one.tell(inp.ShutdownNow()) == []


def test_stop_now_during_a_drain():
    one, _ = running()
    one.tell(inp.Drain(timeout_s=100.0))
    one.tell(inp.ShutdownNow())
    one.tell(inp.ShutdownNow())
    assert len(one.of(cmd.StopHost)) == 2
    one.advance(0.5)
    assert one.drained == 1


def test_what_was_promised_is_kept_in_a_drain_and_the_rest_refused():
    one = World(hosts=HostSettings(max_hosts=1), info=program(has_request_fnc=True))
    one.advance(2.5)
    promised = one.offer()
    one.advance(0.055)
    one.answers_requests = False
    one.offer()
    one.tell(inp.Drain(timeout_s=60.0))
    outcomes = [each.outcome for each in one.of(ev.JobAnswered)]
    assert outcomes == ["accepted", "draining"]
    one.advance(1.0)
    assert [each.order.job_id for each in one.of(cmd.StartJob)] == [promised]


def test_a_call_is_resumed_during_a_drain_and_not_after_its_deadline():
    one, ids = running(min_hosts=1, max_hosts=2, jobs=1)
    one.tell(inp.Drain(timeout_s=30.0))
    one.kill(one.core._state.jobs.get(ids[0]).host_id)
    one.advance(5.0)
    assert one.core._state.jobs.get(ids[0]).generation == 2
    one.hang(one.core._state.jobs.get(ids[0]).host_id)
    one.advance(24.0)
    one.fail_starts = 100
    one.advance(30.0)
    assert one.drained == 1


@pytest.mark.parametrize("force", [False, True])
def test_a_fleet_that_does_not_answer_is_left_behind(force):
    one, _ = running(jobs=0)
    one._stop_host = lambda command: None
    one.tell(inp.ShutdownNow() if force else inp.Drain(timeout_s=1.0))
    one.advance(31.0)
    assert one.drained == 1


def test_a_host_that_becomes_ready_too_late_is_stopped():
    one, _ = running(jobs=0)
    one._stop_host = lambda command: None
    one.tell(inp.Drain(timeout_s=1.0))
    stopped = {each.host_id for each in one.of(cmd.StopHost)}
    one.tell(inp.HostStarted(host_id="late0001", endpoint=None))
    one.hosts["late0001"] = one.hosts[min(one.hosts)].__class__("late0001", ready=True)
    one.watch("late0001")
    assert {each.host_id for each in one.of(cmd.StopHost)} == stopped | {"late0001"}
