"""Dispatchers, offers, deaths and the reconciler racing against LiveKit's lags and losses.

Never two agents for a call (`RoomWorld.check`, after every step), none for a call whose agent left
on purpose, and each caller has one in the end.
"""

import random
from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.fakes.dispatch_world import program
from tests.fakes.room_world import RoomWorld
from voxray.base.settings import HostSettings
from voxray.dispatcher import commands as cmd
from voxray.dispatcher.verdicts import LOST_BEFORE_S
from voxray.observability import room_events as rev

PATIENT = settings(
    deadline=None,
    # A shrink would replay minutes of heartbeats hundreds of times.
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=list(HealthCheck),
)


class ReconcilerMachine(RuleBasedStateMachine):
    """Rooms come and go while everything around them fails now and then."""

    @initialize(
        seed=st.integers(0, 10_000),
        per_host=st.integers(1, 3),
        max_hosts=st.integers(1, 3),
        request_fnc=st.booleans(),
        worker_type=st.sampled_from([0, 0, 2]),
    )
    def start(self, seed, per_host, max_hosts, request_fnc, worker_type):
        self.world = RoomWorld(
            hosts=HostSettings(
                sessions_per_host=per_host, max_hosts=max_hosts, idle_hosts=0, heartbeat_s=0.5
            ),
            info=program(has_request_fnc=request_fnc, worker_type=worker_type),
            rng=random.Random(seed),
        )
        self.number = 0
        self.world.advance(2.0)

    @rule(seconds=st.sampled_from([0.01, 0.1, 0.5, 2.0, 6.0, 20.0]))
    def pass_time(self, seconds):
        self.world.advance(seconds)

    @rule(
        count=st.integers(1, 3),
        callers=st.integers(0, 2),
        after=st.sampled_from([0.0, 0.1, 3.0]),
        then=st.sampled_from([0.0, 0.05, 1.0]),
        fate=st.sampled_from(["", "", "-rejected", "-rejected-for-all"]),
    )
    def call(self, count, callers, after, then, fate):
        for _ in range(count):
            self.number += 1
            self.world.call(f"room-{self.number}{fate}", callers=callers, joins_after_s=after)
        self.world.advance(then)

    @rule(data=st.data())
    @precondition(lambda self: self.world.rooms)
    def hang_up(self, data):
        self.world.hang_up(data.draw(st.sampled_from(sorted(self.world.rooms))))

    @rule(data=st.data())
    @precondition(lambda self: self.live())
    def leave_on_purpose(self, data):
        self.world.leave_on_purpose(data.draw(st.sampled_from(self.live())))

    @rule(data=st.data(), how=st.sampled_from(["kill", "hang"]))
    @precondition(lambda self: self.world.living())
    def lose_host(self, data, how):
        host = data.draw(st.sampled_from([each.host_id for each in self.world.living()]))
        getattr(self.world, how)(host)

    @rule(
        what=st.sampled_from(["lose_offers", "fail_calls", "lose_answers", "fail_job_starts"]),
        count=st.integers(1, 4),
    )
    def make_fail(self, what, count):
        setattr(self.world, what, count)

    @rule(record=st.sampled_from([0.0, 1.0, 5.0]), offer=st.sampled_from([0.0, 0.5, 9.0]))
    def lags(self, record, offer):
        self.world.record_lag_s, self.world.offer_lag_s = record, offer

    @rule(assigns=st.booleans())
    def livekit_mood(self, assigns):
        self.world.assigns = assigns

    @rule()
    @precondition(lambda self: self.world.core._state.registered)
    def disconnect(self):
        self.world.disconnect()

    @rule()
    def restart_the_dispatcher(self):
        self.world.restart()

    def live(self):
        return sorted(
            job_id
            for job_id in self.world.dispatch_of
            if self.world.present(job_id) and job_id not in self.world.ended
        )

    def teardown(self):
        if not hasattr(self, "world"):
            return
        world = self.world
        world.lose_offers = world.fail_calls = world.lose_answers = world.fail_job_starts = 0
        world.record_lag_s = world.offer_lag_s = 0.0
        world.assigns = True
        # Everybody who was about to join is there.
        world.advance(4.0)
        self.close_empty_rooms()
        capacity = world.settings.sessions_per_host * world.settings.max_hosts
        while (open_rooms := self.open_rooms()) and sum(open_rooms.values()) > capacity:
            world.hang_up(max(open_rooms))
        world.advance(20.0)
        # A dispatch that was on its way to a room that ended made it anew, with its own agent.
        self.close_empty_rooms()
        world.advance(160.0)
        for room in world.rooms.values():
            agents = world.agents_in(room)
            for key in world.calls_of(room):
                if key in world.over or self.rejects(room) or self.lost_unseen(room, key):
                    continue
                assert key in agents, f"nobody serves {key} in {room.name}"

    def close_empty_rooms(self):
        """LiveKit does so after its `empty_timeout`."""
        for room in [each for each in self.world.rooms.values() if not each.callers]:
            self.world.hang_up(room.name)

    def open_rooms(self):
        """Rooms that want agents, with how many; a call whose end was forgotten may get one."""
        over = self.world.over - self.world.forgotten
        wanted = {
            room.name: len(self.world.calls_of(room) - over)
            for room in self.world.rooms.values()
            if not self.rejects(room)
        }
        return {name: count for name, count in wanted.items() if count}

    def rejects(self, room):
        return self.world.info.has_request_fnc and "rejected" in room.name

    def lost_unseen(self, room, key):
        """Whether LiveKit's record shows a job that may as well have left on purpose."""
        return any(
            job.participant == key.participant and self.excused(job)
            for dispatch in room.dispatches.values()
            if dispatch.root == key.dispatch_id
            for job in dispatch.jobs
        )

    def excused(self, job):
        """Whether a job ended here after too many deaths, or nobody can know how it ended.

        That is one which LiveKit gave away long before the dispatcher came up, and which no host
        runs: LiveKit shows it as running, whether it was lost or its agent left on purpose.
        """
        state = self.world.core._state
        ended = state.jobs.ended(job.job_id)
        if ended is not None:
            return ended.generation > 0
        live = state.jobs.get(job.job_id) is not None
        known = live or state.line.is_void(job.job_id)
        return not known and job.started_at < self.world.born - LOST_BEFORE_S


TestReconciler = ReconcilerMachine.TestCase
TestReconciler.settings = settings(PATIENT, max_examples=60, stateful_step_count=25)


@given(
    seed=st.integers(0, 10_000),
    rooms=st.integers(3, 25),
    slots=st.integers(1, 4),
)
@settings(PATIENT, max_examples=30)
def test_those_who_wait_are_served_in_the_order_of_their_waiting(seed, rooms, slots):
    rng = random.Random(seed)
    world = RoomWorld(
        hosts=HostSettings(sessions_per_host=slots, max_hosts=1, idle_hosts=0), rng=rng
    )
    world.advance(2.0)
    for number in range(rooms):
        world.call(f"room-{number:03}", joins_after_s=0.01)
        world.advance(rng.choice([0.05, 0.3, 2.0]))
    world.advance(10.0)
    # All of them wait by now; newcomers line up behind them, whatever becomes free when.
    served = [name for name in sorted(world.rooms) if world.agents_in(world.rooms[name])]
    late = 0
    while len(served) < rooms:
        world.hang_up(served[len(served) - slots] if len(served) >= slots else served[0])
        if rng.random() < 0.5:
            late += 1
            world.call(f"room-{rooms + late:03}", joins_after_s=0.0)
        world.advance(rng.choice([0.5, 4.0]))
        served = world.served()[:0] or sorted(
            {*served, *(event for event in world.served() if event <= f"room-{rooms - 1:03}")}
        )
    assert world.served() == sorted(world.served())


@given(
    seed=st.integers(0, 10_000),
    fates=st.lists(st.sampled_from(["", "-rejected", "-rejected-for-all"]), max_size=8),
    lost=st.integers(0, 3),
    breaks=st.booleans(),
)
@settings(PATIENT, max_examples=30)
def test_nobody_is_asked_twice_about_a_call_that_was_rejected(seed, fates, lost, breaks):
    world = RoomWorld(
        hosts=HostSettings(sessions_per_host=10, max_hosts=1, idle_hosts=0),
        info=program(has_request_fnc=True),
        rng=random.Random(seed),
    )
    world.advance(2.0)
    world.lose_offers = lost
    for number, fate in enumerate(fates):
        world.call(f"room-{number}{fate}")
        world.advance(world.rng.choice([0.1, 2.0]))
    if breaks:
        world.advance(10.0)
        world.disconnect()
    world.advance(60.0)
    for room in world.rooms.values():
        asked = [each for each in world.of(cmd.RunRequest) if room is world.room_of(each.job_id)]
        assert len(asked) == 1
        assert bool(world.agents_in(room)) == ("rejected" not in room.name)


@given(
    seed=st.integers(0, 10_000),
    limit=st.integers(1, 2),
    tenants=st.lists(st.sampled_from(["", "x", "y"]), min_size=3, max_size=14),
    record_lag_s=st.sampled_from([0.0, 5.0]),
)
@settings(PATIENT, max_examples=40)
def test_a_tenant_at_its_limit_waits_in_order_and_holds_nobody_up(
    seed, limit, tenants, record_lag_s
):
    rng = random.Random(seed)
    world = RoomWorld(
        hosts=HostSettings(
            sessions_per_host=20,
            max_hosts=1,
            idle_hosts=0,
            tenant_key="tenant",
            tenant_limit=limit,
        ),
        rng=rng,
    )
    world.record_lag_s = record_lag_s
    world.advance(2.0)
    tenant_of, came, order = {}, Counter(tenants), {"x": [], "y": []}

    def call(tenant):
        name = f"room-{len(tenant_of):03}"
        tenant_of[name] = tenant
        metadata = f'{{"tenant": "{tenant}"}}' if tenant else ""
        world.call(name, joins_after_s=0.0, metadata=metadata)

    def served():
        return [name for name in sorted(world.rooms) if world.agents_in(world.rooms[name])]

    for tenant in tenants:
        call(tenant)
        world.advance(rng.choice([0.1, 0.3, 2.0]))
    world.advance(60.0)
    while world.rooms:
        there = served()
        for tenant, rooms in order.items():
            rooms += [each for each in there if tenant_of[each] == tenant and each not in rooms]
            assert sum(tenant_of[each] == tenant for each in there) <= limit
        assert all(each in there for each in world.rooms if not tenant_of[each])
        world.hang_up(rng.choice(there))
        if len(tenant_of) < 2 * len(tenants) and rng.random() < 0.5:
            tenant = rng.choice(["x", "y"])
            came[tenant] += 1
            call(tenant)
        world.advance(rng.choice([3.0, 60.0]))
    assert all(rooms == sorted(rooms) for rooms in order.values())
    assert sum(map(len, order.values())) == came["x"] + came["y"]
    # One dispatch for each that waited, and none for who can't be served yet.
    assert len(world.of(cmd.CreateDispatch)) <= len(world.of(rev.RoomServed))


@pytest.mark.parametrize("rooms", [40])
def test_a_thousand_looks_are_spread_over_time(rooms):
    world = RoomWorld(hosts=HostSettings(sessions_per_host=50, max_hosts=1, idle_hosts=0))
    world.lose_offers = rooms
    for number in range(rooms):
        world.call(f"room-{number:03}")
    world.advance(30.0)
    assert all(world.agents_in(room) for room in world.rooms.values())
