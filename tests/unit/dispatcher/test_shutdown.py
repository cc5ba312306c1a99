import pytest

from tests.fakes.dispatch_world import World, program
from voxray.base.ids import ReplicaId
from voxray.base.settings import HostSettings
from voxray.dispatcher import commands as cmd
from voxray.dispatcher import inputs as inp
from voxray.dispatcher.role import Role
from voxray.dispatcher.shutdown import FLEET_S, STOP_GRACE_S
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
    one.advance(0.5)
    assert one.drained == 1
    assert [each.status for each in one.of(cmd.UpdateJob)[-2:]] == ["failed", "failed"]
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


# --- several dispatchers ---------------------------------------------------------------------


def leader_of_two(jobs=1):
    one = World(
        hosts=HostSettings(sessions_per_host=4, min_hosts=1, max_hosts=2, idle_hosts=0),
        role=Role(index=0, count=2),
    )
    one.advance(2.5)
    one.tell(inp.PeersLooked(over=False))
    return one, [one.offer() for _ in range(jobs)]


def test_replicas_stay_for_the_calls_of_another_dispatcher():
    one, (job_id,) = leader_of_two()
    one.advance(1.0)
    one.tell(inp.Drain(timeout_s=600.0))
    one.finish(job_id)
    one.advance(60.0)
    assert one.of(cmd.StopHost)
    assert not one.of(cmd.StopReplica)
    assert not one.drained
    one.tell(inp.PeersLooked(over=True))
    one.advance(1.0)
    assert one.of(cmd.StopReplica)
    assert one.drained == 1


def test_a_lost_replica_is_replaced_while_another_dispatcher_has_calls():
    one, (job_id,) = leader_of_two()
    one.advance(1.0)
    one.tell(inp.Drain(timeout_s=600.0))
    one.finish(job_id)
    one.advance(5.0)
    (replica,) = one.replicas
    started = len(one.of(cmd.StartReplica))
    one.kill_replica(replica)
    one.advance(5.0)
    assert len(one.of(cmd.StartReplica)) == started + 1


def test_a_dispatcher_that_never_ends_does_not_hold_the_app_for_ever():
    one, (job_id,) = leader_of_two()
    one.advance(1.0)
    one.tell(inp.Drain(timeout_s=10.0))
    one.finish(job_id)
    one.advance(10.0)
    assert not one.drained
    limits = one.info.shutdown_timeout_s + one.info.session_end_timeout_s
    one.advance(limits + STOP_GRACE_S + 2 * FLEET_S)
    assert one.drained == 1


def test_a_stop_at_once_does_not_wait_for_other_dispatchers():
    one, _ = leader_of_two()
    one.tell(inp.ShutdownNow())
    one.advance(1.0)
    assert one.drained == 1


def test_a_follower_leaves_the_replicas_alone():
    one = World(role=Role(index=1, count=2))
    one.advance(2.5)
    assert not one.of(cmd.StartReplica)
    replica = ReplicaId("speech-1")
    one.replicas[replica] = True
    one.beat_replica(replica)
    assert [each.replica_id for each in one.core.snapshot().replicas] == ["speech-1"]
    assert one.of(cmd.SetReplicas)[-1].replicas[0].replica_id == "speech-1"
    # Out of sight for a while, and back: the same replica counts again.
    one.tell(inp.ReplicaLost(replica_id=ReplicaId("speech-1"), evidence="its stream broke"))
    assert one.of(cmd.SetReplicas)[-1].replicas == ()
    one.advance(1.0)
    assert one.of(cmd.SetReplicas)[-1].replicas[0].replica_id == "speech-1"
    assert not one.of(ev.ReplicaLost) + one.of(ev.ReplicaReady)
    one.tell(inp.Drain(timeout_s=60.0))
    one.advance(2.0)
    assert one.drained == 1
    assert not one.of(cmd.StopReplica)
    assert all(host_id.startswith("1-") for host_id in one.hosts)
