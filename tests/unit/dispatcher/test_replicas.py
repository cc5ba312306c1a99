from tests.fakes.dispatch_world import World, endpoint
from voxray.actors.contracts import ReplicaHeartbeat
from voxray.base.ids import ReplicaId
from voxray.base.settings import HostSettings, InferenceSettings, ReplicaGroupSettings
from voxray.dispatcher import commands as cmd
from voxray.dispatcher import inputs as inp
from voxray.observability import events as ev


def world(*, start_core=True, **groups):
    settings = InferenceSettings(
        groups=tuple(
            ReplicaGroupSettings(name=name, engines=("silero",), replicas=count)
            for name, count in (groups or {"speech": 2}).items()
        )
    )
    return World(hosts=HostSettings(max_hosts=1), inference=settings, start_core=start_core)


def ids(one):
    return [each.replica_id for each in one.of(cmd.StartReplica)]


def published(one):
    return [each.replica_id for each in one.of(cmd.SetReplicas)[-1].replicas]


def heartbeat(replica_id, group="speech"):
    return inp.ReplicaHeartbeatReceived(
        heartbeat=ReplicaHeartbeat(
            replica_id=replica_id,
            group=group,
            engines=("silero",),
            endpoint=endpoint(replica_id),
            device="cuda:0",
            streams=3,
            max_streams=8,
        )
    )


def test_every_group_is_started_at_its_size():
    one = world(speech=2, big=1)
    assert ids(one) == ["speech-1", "speech-2", "big-1"]
    assert one.of(cmd.StartReplica)[2].group.name == "big"


def test_hosts_are_told_of_replicas_that_report_once_per_change():
    one = world()
    one.advance(5.0)
    assert published(one) == ["speech-1", "speech-2"]
    endpoint_of_first = one.of(cmd.SetReplicas)[-1].replicas[0]
    assert (endpoint_of_first.address, endpoint_of_first.engines) == ("speech-1:1", ("silero",))
    count = len(one.of(cmd.SetReplicas))
    one.advance(20.0)
    assert len(one.of(cmd.SetReplicas)) == count
    assert [each.device for each in one.of(ev.ReplicaReady)] == ["cpu", "cpu"]


def test_a_lost_replica_is_unpublished_at_once_and_replaced_under_a_new_id():
    one = world()
    one.advance(20.0)
    one.kill_replica(ReplicaId("speech-1"))
    one.advance(0.1)
    assert published(one) == ["speech-2"]
    assert ids(one)[-1] == "speech-3"
    one.advance(3.0)
    assert published(one) == ["speech-2", "speech-3"]
    lost = one.of(ev.ReplicaLost)
    assert [(each.replica_id, each.was_ready) for each in lost] == [("speech-1", True)]
    assert cmd.StopReplica(replica_id=ReplicaId("speech-1"), force=True) in one.commands


def test_a_silent_replica_is_lost():
    one = world(speech=1)
    one.advance(20.0)
    one.replicas["speech-1"] = False
    one.advance(6.0)
    assert "no report for 5 s" in one.of(ev.ReplicaLost)[0].reason
    # Its late heartbeat does not bring it back.
    one.tell(heartbeat(ReplicaId("speech-1")))
    assert "speech-1" not in [each.replica_id for each in one.core.snapshot().replicas]


def test_starts_that_fail_back_off_and_the_reason_is_shown():
    one = world(start_core=False, speech=1)
    one._start_replica = lambda command: one.later(
        0.1, inp.ReplicaFailed(replica_id=command.replica_id, reason="no such engine")
    )
    one.begin()
    one.advance(300.0)
    assert 5 < len(ids(one)) < 20
    assert len(set(ids(one))) == len(ids(one))
    (group,) = one.core.snapshot().groups
    assert (group.wanted, group.ready, group.reason) == (1, 0, "no such engine")
    assert {each.was_ready for each in one.of(ev.ReplicaLost)} == {False}


def test_found_replicas_are_kept_and_their_numbers_not_used_again():
    one = world(start_core=False)
    found = ReplicaId("speech-7")
    one.tell(inp.FleetFound(replicas=(found,)))
    one.tell(heartbeat(found))
    (new,) = ids(one)
    assert new.startswith("speech-")
    assert int(new.removeprefix("speech-")) > 1_000_000
    states = {each.replica_id: each.state for each in one.core.snapshot().replicas}
    assert states == {found: "ready", new: "starting"}


def test_what_no_group_wants_is_stopped():
    one = world(start_core=False, speech=1)
    wanted, surplus, old = (ReplicaId(name) for name in ("speech-1", "speech-2", "old-1"))
    one.tell(inp.FleetFound(replicas=(wanted, surplus, old)))
    assert [each.replica_id for each in one.of(cmd.StopReplica)] == [surplus, old]
    assert not ids(one)
    one.advance(1.0)
    assert [each.replica_id for each in one.core.snapshot().replicas] == [wanted]
    assert not one.of(ev.ReplicaLost)


def test_status_shows_replicas():
    one = world(start_core=False, speech=1)
    one.tell(inp.FleetFound())
    (view,) = one.core.snapshot().replicas
    assert (view.state, view.reason, view.pid) == ("starting", "its engines are being loaded", None)
    one.tell(heartbeat(ReplicaId("speech-1")))
    (view,) = one.core.snapshot().replicas
    assert (view.state, view.reason, view.pid, view.device, view.streams) == (
        "ready",
        "",
        7,
        "cuda:0",
        3,
    )


def test_a_replica_that_was_not_found_by_name_is_adopted_when_it_reports():
    one = world(start_core=False, speech=2)
    one.tell(heartbeat(ReplicaId("speech-4")))
    one.tell(inp.FleetFound())
    states = {each.replica_id: each.state for each in one.core.snapshot().replicas}
    assert states == {"speech-4": "ready", "speech-5": "starting"}


# Growing and shrinking.


def growing(most=3, **settings):
    group = ReplicaGroupSettings(
        name="speech",
        engines=("silero",),
        replicas=1,
        max_replicas=most,
        max_streams=8,
        grow_queue_ms=40,
        **settings,
    )
    return World(hosts=HostSettings(max_hosts=1), inference=InferenceSettings(groups=(group,)))


def load(one, streams, queue_s=0.0):
    """Spread the same load over whatever replicas there are, from now on."""
    for replica_id in list(one.replicas):
        one.replica_load[replica_id] = (streams, queue_s)


def test_a_busy_group_grows_one_by_one_up_to_its_most():
    one = growing()
    one.advance(10.0)
    assert ids(one) == ["speech-1"]
    load(one, 8)
    one.advance(4.5)
    assert ids(one) == ["speech-1", "speech-2"]
    for _ in range(20):
        load(one, 8)
        one.advance(5.0)
    assert ids(one) == ["speech-1", "speech-2", "speech-3"]
    assert [each.wanted for each in one.of(ev.GroupResized)] == [2, 3]
    (group,) = one.core.snapshot().groups
    assert (group.ready, group.wanted, group.least, group.most, group.streams) == (3, 3, 1, 3, 24)


def test_a_long_queue_makes_a_group_grow_too():
    one = growing()
    one.advance(10.0)
    load(one, 1, queue_s=0.1)
    one.advance(5.0)
    assert ids(one) == ["speech-1", "speech-2"]


def test_a_replica_that_is_not_needed_ends_when_its_streams_have_moved():
    one = growing(most=2)
    one.advance(10.0)
    load(one, 8)
    one.advance(8.0)
    assert published(one) == ["speech-1", "speech-2"]
    one.replica_load["speech-1"] = (2, 0.0)
    one.replica_load["speech-2"] = (1, 0.0)
    one.advance(62.0)
    assert one.of(cmd.DrainReplica) == [cmd.DrainReplica(replica_id=ReplicaId("speech-2"))]
    assert published(one) == ["speech-1"]
    assert not one.of(cmd.StopReplica)
    state = {each.replica_id: each for each in one.core.snapshot().replicas}["speech-2"]
    assert (state.state, state.reason) == ("draining", "its streams move to others")
    one.advance(10.0)
    assert not one.of(cmd.StopReplica)
    one.replica_load["speech-2"] = (0, 0.0)
    one.advance(1.5)
    assert one.of(cmd.StopReplica) == [cmd.StopReplica(replica_id=ReplicaId("speech-2"))]
    assert not one.of(ev.ReplicaLost)
    assert [each.streams for each in one.of(ev.ReplicaDraining)] == [1]
    one.advance(100.0)
    assert ids(one) == ["speech-1", "speech-2"]


def test_streams_that_do_not_move_keep_a_replica_only_so_long():
    one = growing(most=2)
    one.advance(10.0)
    load(one, 8)
    one.advance(8.0)
    load(one, 1)
    one.advance(62.0)
    assert one.of(cmd.DrainReplica)
    one.advance(61.0)
    assert len(one.of(cmd.StopReplica)) == 1


def test_a_replica_that_waits_for_a_gpu_says_so_and_is_given_up_when_not_needed():
    one = growing(most=2)
    one.advance(10.0)
    one._start_replica = lambda command: one.later(
        4.0,
        inp.ReplicaWaiting(replica_id=command.replica_id, reason="waits for 0.5 GPU: 0 of 2 free"),
    )
    load(one, 8)
    one.advance(12.0)
    (group,) = one.core.snapshot().groups
    assert (group.ready, group.wanted) == (1, 2)
    assert group.reason == "speech-2 waits for 0.5 GPU: 0 of 2 free"
    assert len(one.of(ev.ReplicaWaiting)) == 1
    load(one, 1)
    one.advance(70.0)
    assert one.of(cmd.StopReplica) == [
        cmd.StopReplica(replica_id=ReplicaId("speech-2"), force=True)
    ]


def test_a_restarted_dispatcher_keeps_a_group_at_the_size_it_had_grown_to():
    found = tuple(ReplicaId(f"speech-{number}") for number in (1, 2, 3))
    again = growing_core(found)
    assert not again.of(cmd.StopReplica)
    assert not again.of(cmd.DrainReplica)
    assert not ids(again)


def growing_core(found):
    group = ReplicaGroupSettings(
        name="speech", engines=("silero",), replicas=1, max_replicas=3, max_streams=8
    )
    one = World(
        hosts=HostSettings(max_hosts=1),
        inference=InferenceSettings(groups=(group,)),
        start_core=False,
    )
    one.tell(inp.FleetFound(replicas=found))
    for replica_id in found:
        one.tell(heartbeat(replica_id))
    return one


def test_a_draining_replica_that_another_dispatcher_left_goes_on_draining():
    one = growing_core((ReplicaId("speech-1"), ReplicaId("speech-2")))
    beat = heartbeat(ReplicaId("speech-2")).heartbeat.model_copy(update={"draining": True})
    one.tell(inp.ReplicaHeartbeatReceived(heartbeat=beat))
    assert "speech-2" not in [each.replica_id for each in one.core._replicas.endpoints()]
    one.tell(inp.ReplicaHeartbeatReceived(heartbeat=beat.model_copy(update={"streams": 0})))
    assert cmd.StopReplica(replica_id=ReplicaId("speech-2")) in one.commands
