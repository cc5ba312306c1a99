import pytest

from tests.fakes.dispatch_world import World, endpoint, program
from voxray.actors.contracts import HostHeartbeat, HostSnapshot
from voxray.base.ids import HostId
from voxray.base.settings import HostSettings
from voxray.dispatcher import commands as cmd
from voxray.dispatcher import inputs as inp
from voxray.dispatcher.warm_pool import LINGER_S
from voxray.observability import events as ev


def world(**changes):
    fields = {"sessions_per_host": 2, "min_hosts": 1, "max_hosts": 3, "idle_hosts": 1}
    info = program(**changes.pop("program", {}))
    return World(hosts=HostSettings(**(fields | changes)), info=info)


def states(one):
    return {each.host_id: each.state for each in one.core.snapshot().hosts}


def test_nothing_starts_before_it_is_known_what_runs():
    one = World(start_core=False)
    one.advance(100.0)
    one.tell(inp.Tick())
    assert not one.of(cmd.StartHost)
    one.begin()
    assert len(one.of(cmd.StartHost)) == 1


def test_a_host_is_ready_with_its_snapshot_and_told_where_inference_is():
    one = world()
    assert list(states(one).values()) == ["starting"]
    one.advance(1.0)
    (host,) = one.core.snapshot().hosts
    assert (host.state, host.pid, host.node, host.capacity) == ("ready", 7, "n1", 2)
    assert one.of(ev.HostReady) == [ev.HostReady(host_id=host.host_id, seconds=1.0)]
    assert one.of(cmd.SetReplicas)[0].host_id == host.host_id


def test_a_spare_is_started_with_the_first_call_and_retired_after_the_last():
    one = world()
    one.advance(1.5)
    job_id = one.offer()
    one.advance(2.0)
    assert len(states(one)) == 2
    one.finish(job_id)
    one.advance(LINGER_S - 1)
    assert len(states(one)) == 2
    one.advance(2.0)
    assert len(states(one)) == 1
    assert [each.reason for each in one.of(ev.HostRetired)] == ["empty beyond the pool"]
    assert not one.of(ev.HostLost)


def test_starts_that_fail_are_told_once_each_and_not_hurried():
    one = World(start_core=False, hosts=HostSettings(max_hosts=3, min_hosts=3))
    one.fail_starts = 1000
    one.begin()
    one.advance(300.0)
    assert len(one.of(cmd.StartHost)) == len(one.of(ev.HostStartFailed)) + len(states(one))
    assert len(one.of(cmd.StartHost)) < 30
    one.fail_starts = 0
    one.advance(120.0)
    assert list(states(one).values()) == ["ready"] * 3


def test_a_host_that_dies_young_is_not_restarted_in_a_hot_loop():
    one = world()
    for _ in range(100):
        for host in one.living():
            one.kill(host.host_id)
        one.advance(1.0)
    assert len(one.of(cmd.StartHost)) < 25


def test_a_start_that_hangs_is_given_up():
    one = World(start_core=False, hosts=HostSettings(max_hosts=1, start_timeout_s=10.0))
    one.start_s = 1e9
    one.begin()
    one.advance(25.5)  # The imports, `setup_fnc`, and our grace.
    first = one.of(cmd.StartHost)[0].host_id
    assert one.of(ev.HostStartFailed) == [
        ev.HostStartFailed(host_id=first, reason="it was not ready in time")
    ]
    assert cmd.StopHost(host_id=first, force=True) in one.commands


def test_a_late_host_gets_no_new_jobs():
    one = world(min_hosts=2)
    one.advance(1.5)
    late, well = sorted(states(one))
    one.hang(late)
    one.advance(1.3)
    assert (states(one)[late], states(one)[well]) == ("silent", "ready")
    one.offer()
    assert one.core._state.jobs.on_host(well)
    one.hosts[late].hung = False
    one._beat(one.hosts[late])
    assert states(one)[late] == "ready"


def test_a_pause_of_ours_is_not_a_host_s_silence():
    one = world()
    one.advance(1.5)
    one.clock.now += 60.0
    one.tell(inp.Tick())
    one.advance(1.0)
    assert not one.of(ev.HostLost)


def test_a_lost_host_does_not_come_back():
    one = world()
    one.advance(1.5)
    host_id = one.living()[0].host_id
    one.cut(host_id)
    one.advance(2.5)
    assert [each.kind for each in one.of(ev.HostLost)] == ["host_silent"]
    snapshot = HostSnapshot(
        host_id=host_id, endpoint=endpoint(host_id), capacity=2, orders=(), statuses=()
    )
    assert one.tell(inp.HostSnapshotReceived(snapshot=snapshot)) == [
        cmd.StopHost(host_id=host_id, force=True)
    ]
    assert host_id not in states(one)
    beat = HostHeartbeat(host_id=host_id, sequence=99, jobs=0)
    assert one.tell(inp.HostHeartbeatReceived(heartbeat=beat)) == []


def test_a_loss_is_told_once():
    one = world()
    one.advance(1.5)
    host_id = one.living()[0].host_id
    one.kill(host_id)
    one.advance(0.1)
    assert one.tell(inp.HostLost(host_id=host_id, evidence="again")) == []
    assert [each.evidence for each in one.of(ev.HostLost)] == ["its stream broke"]


def test_a_found_host_is_adopted_or_given_up():
    one = World(start_core=False, hosts=HostSettings(min_hosts=1, max_hosts=3))
    well, dead = HostId("aaaa0001"), HostId("aaaa0002")
    one.tell(inp.FleetFound(hosts=(well, dead)))
    snapshot = HostSnapshot(
        host_id=well, endpoint=endpoint(well), capacity=3, orders=(), statuses=()
    )
    one.tell(inp.HostSnapshotReceived(snapshot=snapshot))
    assert not one.of(cmd.StartHost)
    assert states(one) == {well: "ready", dead: "starting"}
    one.tell(inp.HostLost(host_id=dead, evidence="could not dial"))
    assert states(one) == {well: "ready"}


def test_the_program_s_own_load_keeps_jobs_away():
    one = world(min_hosts=2, max_hosts=2, program={"has_load_fnc": True, "load_threshold": 0.5})
    one.advance(1.5)
    busy, well = one.living()
    busy.load = 0.6
    well.load = 0.25
    one.advance(0.5)
    assert states(one) == {busy.host_id: "busy", well.host_id: "ready"}
    assert one.of(cmd.UpdateWorker)[-1].load == pytest.approx(0.345)
    well.load = 0.9
    one.advance(0.5)
    assert one.of(cmd.UpdateWorker)[-1].full
    one.offer()
    assert one.of(ev.JobAnswered)[0].outcome == "full"


def test_a_heartbeat_that_is_old_is_no_sign_of_life():
    one = world()
    one.advance(1.5)
    (host,) = one.living()
    one.hang(host.host_id)
    for _ in range(30):
        old = HostHeartbeat(host_id=host.host_id, sequence=1, jobs=0)
        one.tell(inp.HostHeartbeatReceived(heartbeat=old))
        one.advance(0.1)
    assert one.of(ev.HostLost)


def test_a_host_of_process_isolation_runs_one_call_and_is_replaced():
    one = world(isolation="process", sessions_per_host=12, max_hosts=2)
    one.advance(1.5)
    (first,) = states(one)
    assert one.core.snapshot().hosts[0].capacity == 1
    job_id = one.offer()
    one.advance(2.0)
    # A fresh one stands ready while the call runs; beyond max_hosts there is none.
    assert list(states(one).values()) == ["ready", "ready"]
    second = one.offer()
    one.advance(0.1)
    assert one.core.snapshot().totals.used == 2
    one.offer()
    one.advance(2.0)
    assert len(one.of(cmd.StartJob)) == 2
    one.finish(job_id)
    one.advance(0.005)
    assert [each.host_id for each in one.of(cmd.StopHost)] == [first]
    one.advance(5.0)
    assert first not in states(one)
    assert [each.reason for each in one.of(ev.HostRetired)] == ["its one call is over"]
    one.finish(second)
    one.advance(5.0)
    assert len({each.host_id for each in one.of(cmd.StartJob)}) == 2
    assert list(states(one).values()) == ["ready"]


def test_a_restarted_dispatcher_retires_a_host_that_had_its_call():
    one = world(isolation="process", max_hosts=3)
    one.advance(1.5)
    job_id = one.offer()
    one.advance(1.0)
    host_id = one.of(cmd.StartJob)[0].host_id
    for host in one.hosts.values():
        host.watched = False
    one.finish(job_id)
    one.restart()
    one.advance(1.0)
    assert host_id in [each.host_id for each in one.of(cmd.StopHost)]


def test_a_promised_slot_that_is_not_used_leaves_a_host_fresh():
    one = world(isolation="process", max_hosts=1)
    one.advance(1.5)
    one.assigns = False
    one.offer()
    one.advance(8.0)
    one.assigns = True
    one.offer()
    one.advance(1.0)
    assert len(one.of(cmd.StartJob)) == 1
    assert not one.of(cmd.StopHost)


def test_the_same_failure_is_told_whole_once_until_a_host_starts():
    one = world(min_hosts=1, idle_hosts=0)
    one.advance(1.5)
    for _ in range(2):
        one.fail_starts = 3
        one.kill(one.living()[0].host_id)
        one.advance(60.0)
        assert one.living()
    repeats = [event.repeats for event in one.of(ev.HostStartFailed)]
    assert repeats == [1, 2, 3, 1, 2, 3]


def test_starts_that_fail_leave_the_calls_on_other_hosts_alone():
    one = world(sessions_per_host=1)
    one.advance(1.5)
    one.fail_starts = 10_000
    job_id = one.offer()
    one.advance(300.0)
    assert one.of(ev.HostStartFailed)
    assert one.present(job_id)
    assert not one.of(ev.HostLost)
    assert not one.of(ev.HostRetired)
