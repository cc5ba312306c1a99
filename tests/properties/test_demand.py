"""Growth ahead of a burst: the forecast, the plan made of it, and both in virtual time."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.dispatch_world import World
from voxray.base.ids import HostId
from voxray.base.settings import HostSettings
from voxray.dispatcher import commands as cmd
from voxray.dispatcher.demand import LONGEST_S, SHORTEST_S, Demand, expected_offers
from voxray.dispatcher.offers import HOLD_S
from voxray.dispatcher.warm_pool import LINGER_LIMIT, LINGER_S, Linger, Pool, plan
from voxray.observability import events as ev

COUNTS = st.integers(0, 10_000)
START_S = 3.0


@given(COUNTS, COUNTS)
def test_a_forecast_is_never_less_than_what_came(older, newer):
    assert expected_offers(older, newer) >= older + newer


@given(COUNTS, COUNTS, st.integers(1, 100))
def test_more_offers_never_forecast_less(older, newer, more):
    assert expected_offers(older, newer + more) >= expected_offers(older, newer)


@given(COUNTS)
def test_a_steady_flow_is_forecast_as_itself_and_a_margin(half):
    assert 2 * half <= expected_offers(half, half) <= 2 * half + 2 * (2 * half) ** 0.5


def test_one_call_is_no_burst():
    assert expected_offers(0, 1) == expected_offers(1, 0) == 1


@given(st.lists(st.floats(0, 100), max_size=200), st.lists(st.floats(0.1, 60), max_size=9))
def test_a_forecast_forgets(times, starts):
    demand = Demand()
    for seconds in starts:
        demand.started(seconds)
    for at in sorted(times):
        demand.offered(at)
        assert demand.expected(at) >= 1
    assert SHORTEST_S <= demand.span_s <= LONGEST_S
    assert demand.expected(100 + LONGEST_S + 1) == 0


def pool_of(hosts, **others):
    """A pool from (free slots, empty since or None) of its hosts."""
    empty = sorted(
        (since, HostId(f"e{n}")) for n, (_, since) in enumerate(hosts) if since is not None
    )
    return Pool(
        ready=len(hosts),
        free=sum(free for free, _ in hosts),
        empty=len(empty),
        longest_empty=tuple(empty),
        **others,
    )


POOLS = st.builds(
    pool_of,
    st.lists(
        st.tuples(st.integers(0, 3), st.none()) | st.tuples(st.just(4), st.floats(0, 500)),
        max_size=9,
    ),
    starting=st.integers(0, 6),
    others=st.integers(0, 4),
    waiting=st.integers(0, 60),
    expected=st.floats(0, 200),
)


@given(POOLS, st.integers(1, 4), st.integers(0, 4), st.integers(0, 20), st.floats(0, 1000))
def test_a_plan_stays_in_its_bounds_and_does_not_flap(pool, minimum, idle, more, now):
    settings = HostSettings(
        sessions_per_host=4, min_hosts=minimum, idle_hosts=idle, max_hosts=minimum + idle + more
    )
    todo = plan(pool, settings, now)
    existing = pool.ready + pool.starting + pool.others
    assert todo.start >= 0
    assert existing + todo.start <= max(existing, settings.max_hosts)
    assert not (todo.start and todo.retire)
    assert todo.start >= plan(replace(pool, expected=0.0), settings, now).start
    for since, host_id in pool.longest_empty:
        assert host_id not in todo.retire or now - since >= LINGER_S
    if todo.retire:
        left = replace(
            pool,
            ready=pool.ready - len(todo.retire),
            empty=pool.empty - len(todo.retire),
            free=pool.free - 4 * len(todo.retire),
        )
        assert left.ready >= minimum
        assert plan(left, settings, now).start == 0, "what was retired is started again"


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 300)), max_size=60))
def test_lingering_stays_in_its_bounds(story):
    linger, now = Linger(), 0.0
    for started, pause in story:
        now += pause
        (linger.started if started else linger.retired)(now)
        assert LINGER_S <= linger.seconds <= LINGER_S * LINGER_LIMIT


def test_hosts_that_are_missed_after_their_retirement_stay_longer_the_next_time():
    linger = Linger()
    linger.retired(100.0)
    linger.started(101.0 + LINGER_S)
    assert linger.seconds == LINGER_S
    linger.retired(300.0)
    linger.started(300.0 + LINGER_S / 2)
    assert linger.seconds == 2 * LINGER_S
    linger.retired(1000.0)
    linger.retired(1001.0 + LINGER_S)
    assert linger.seconds == LINGER_S


def ramp(peak_per_s, rise_s, seconds, rng=None):
    """Times of offers whose rate grows to a peak in a straight line."""
    at = 0.0
    while at < seconds:
        rate = max(0.5, peak_per_s * min(1.0, at / rise_s))
        at += rng.expovariate(rate) if rng else 1 / rate
        yield at


def refused_by_plan(times, settings, *, ahead):
    """Play offers against `plan` alone, calls without an end; count those without a slot in time.

    As in `offers.py`, an offer without a slot waits for a host that will be there in `HOLD_S`.
    """
    demand, ready, starting, free, refused = Demand(), 1, [], settings.sessions_per_host, 0
    demand.started(START_S)
    for now in times:
        while starting and starting[0] <= now:
            starting.pop(0)
            ready, free = ready + 1, free + settings.sessions_per_host
        demand.offered(now)
        soon = sum(at <= now + HOLD_S for at in starting) * settings.sessions_per_host
        if free + soon > 0:
            free -= 1  # Below zero: so many wait for a host that comes soon.
        else:
            refused += 1
        pool = pool_of(
            [(max(0, free), None)],
            starting=len(starting),
            others=ready - 1,
            waiting=max(0, -free),
            expected=demand.expected(now) if ahead else 0.0,
        )
        starting += [now + START_S] * plan(pool, settings, now).start
        assert ready + len(starting) <= settings.max_hosts
    return refused


@pytest.mark.parametrize("seed", range(5))
def test_a_ramp_is_met_where_the_level_alone_refuses(seed):
    settings = HostSettings(sessions_per_host=4, min_hosts=1, idle_hosts=1, max_hosts=400)
    even, random_ = ramp(20.0, 30.0, 60.0), ramp(20.0, 30.0, 60.0, random.Random(seed))
    assert refused_by_plan(even, settings, ahead=True) == 0
    times = list(random_)
    # Chance may double the few calls that begin a ramp; one in two hundred is the bound.
    assert refused_by_plan(times, settings, ahead=True) <= len(times) / 200
    assert refused_by_plan(times, settings, ahead=False) > len(times) / 2


def test_the_whole_dispatcher_meets_a_ramp_and_shrinks_again():
    world = World(
        hosts=HostSettings(sessions_per_host=4, min_hosts=1, idle_hosts=1, max_hosts=60),
        rng=random.Random(5),
    )
    world.start_s = START_S
    world.advance(START_S + 0.5)
    begin, jobs = world.clock.now, []
    for at in ramp(10.0, 20.0, 30.0):
        world.advance(max(0.0, begin + at - world.clock.now))
        jobs.append(world.offer())
    world.advance(1.0)
    outcomes = [event.outcome for event in world.of(ev.JobAnswered)]
    assert outcomes == ["accepted"] * len(jobs)
    started = len(world.of(cmd.StartHost))
    for job in jobs:
        world.finish(job)
    world.advance(3 * LINGER_S)
    assert len(world.living()) == 1
    assert len(world.of(cmd.StartHost)) == started, "hosts were started while the fleet shrank"


def test_a_burst_against_a_cold_fleet_is_taken_as_far_as_the_fleet_may_grow():
    world = World(
        hosts=HostSettings(sessions_per_host=12, min_hosts=1, idle_hosts=1, max_hosts=4),
    )
    world.start_s = 1.0
    jobs = [world.offer() for _ in range(50)]
    assert len(world.of(cmd.StartHost)) == 4
    world.advance(3.0)
    outcomes = [event.outcome for event in world.of(ev.JobAnswered)]
    assert len(outcomes) == len(jobs)
    assert outcomes.count("accepted") == 48
    assert outcomes.count("full") == 2
