import dataclasses
import itertools
import json

import pytest

from tests.fakes.dispatch_world import World
from voxray.actors.contracts import TurnReport
from voxray.base.ids import JobId
from voxray.base.settings import HostSettings
from voxray.dispatcher import commands as cmd
from voxray.dispatcher import inputs as inp
from voxray.observability import events as ev


@pytest.fixture
def one():
    world = World(hosts=HostSettings(sessions_per_host=2, max_hosts=1, idle_hosts=0))
    world.advance(2.5)
    return world


def loads(one):
    return [(each.full, each.load, each.job_count) for each in one.of(cmd.UpdateWorker)]


def test_livekit_is_told_the_load_on_registration_and_on_every_change(one):
    assert loads(one) == [(True, 1.0, 0), (False, 0.0, 0)]
    one.offer()
    one.advance(1.0)
    one.offer()
    one.advance(1.0)
    assert loads(one)[2:] == [
        (False, 0.345, 0),
        (False, 0.345, 1),
        (True, 1.0, 1),
        (True, 1.0, 2),
    ]
    count = len(loads(one))
    one.tell(inp.WorkerRegistered(worker_id="AW_2"))
    assert loads(one)[count:] == [(True, 1.0, 2)]


def test_livekit_is_told_nothing_while_it_is_not_connected(one):
    one.tell(inp.WorkerDisconnected(reason="closed"))
    count = len(loads(one))
    one.kill(one.living()[0].host_id)
    one.advance(0.1)
    assert len(loads(one)) == count
    assert one.of(ev.WorkerDisconnected) == [ev.WorkerDisconnected(reason="closed")]


def test_registrations_are_told_apart(one):
    one.disconnect()
    one.advance(1.0)
    assert [each.reconnect for each in one.of(ev.WorkerRegistered)] == [False, True]


def test_running_calls_outlive_the_websocket(one):
    job_id = one.offer()
    one.advance(1.0)
    one.disconnect()
    one.advance(5.0)
    assert one.core._state.jobs.get(job_id).state == "running"


def test_heartbeats_that_change_nothing_cause_nothing(one):
    before = len(one.commands)
    one.tell(inp.Tick())
    for _ in range(40):
        one._beat(next(iter(one.hosts.values())))
    assert len(one.commands) == before


def test_capacity_changes_are_events(one):
    one.offer()
    changes = one.of(ev.CapacityChanged)
    assert dataclasses.asdict(changes[-1]) == {
        "slots": 2,
        "used": 0,
        "reserved": 1,
        "hosts": 1,
        "idle_hosts": 0,
        "load": 0.345,
    }
    assert all(first != second for first, second in itertools.pairwise(changes))


def test_turns_pass_through_with_their_trace(one):
    job_id = one.offer()
    one.advance(1.0)
    report = TurnReport(
        job_id=job_id, room="r", agent="a", number=1, stages={"e2e": 0.5}, tools=("when",), at=5.0
    )
    assert one.tell(inp.TurnReported(report=report)) == [
        cmd.EmitEvent(
            event=ev.TurnDone(
                job_id=job_id,
                room="r",
                agent="a",
                number=1,
                stages={"e2e": 0.5},
                tools=("when",),
                at=5.0,
                traceparent="00-1-2-01",
            )
        )
    ]


def test_a_story_reads_from_the_offer_to_the_end(one):
    job_id = one.offer()
    one.advance(1.0)
    one.finish(job_id)
    one.advance(0.1)
    states = [entry.to_state for entry in one.core.story(job_id)]
    assert list(dict.fromkeys(states)) == ["offered", "reserved", "starting", "running", "ended"]
    times = [entry.at for entry in one.core.story(job_id)]
    assert times == sorted(times)
    assert one.core.story(JobId("AJ_unknown")) == ()


def test_a_snapshot_is_plain_data(one):
    job_id = one.offer()
    one.advance(1.0)
    snapshot = one.core.snapshot()
    json.dumps(dataclasses.asdict(snapshot))
    (host,) = snapshot.hosts
    assert [(job.job_id, job.state, job.generation) for job in host.jobs] == [
        (job_id, "running", 1)
    ]
    assert (host.used, host.reserved, host.capacity) == (1, 0, 2)
    assert (snapshot.stage, snapshot.registered, snapshot.worker_id) == ("serving", True, "AW_1")
    totals = snapshot.totals
    assert (totals.jobs, totals.slots, totals.used, totals.hosts, totals.load) == (
        1,
        2,
        1,
        1,
        0.345,
    )


def test_the_next_deadline_is_the_earliest_thing_that_time_changes(one):
    one.hang(one.living()[0].host_id)
    for host in one.core._state.hosts:
        assert one.core.next_deadline() == pytest.approx(host.last_sign + 1.0)
    one.assigns = False
    one.advance(0.9)
    one.offer()
    assert one.core.next_deadline() <= one.clock.now + 7.5


def test_no_identity_token_or_payload_is_shown(one):
    one.offer()
    one.advance(1.0)
    shown = repr(one.of(cmd.StartJob)) + repr(one.core._state.jobs._live)
    assert "token-" not in shown
