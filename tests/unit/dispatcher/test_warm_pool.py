import random

import pytest

from voxray.base.ids import HostId
from voxray.base.settings import HostSettings
from voxray.base.timing import Backoff
from voxray.dispatcher.warm_pool import LINGER_S, YOUNG_S, Pool, StartGate, plan


def settings(**changes):
    fields = {"sessions_per_host": 2, "min_hosts": 1, "max_hosts": 5, "idle_hosts": 1}
    return HostSettings(**(fields | changes))


def pool(*ready, starting=0, others=0, waiting=0):
    since = sorted((at, name) for name, _, at in ready if at is not None)
    return Pool(
        ready=len(ready),
        free=sum(free for _, free, _ in ready),
        empty=len(since),
        longest_empty=tuple(since),
        starting=starting,
        others=others,
        waiting=waiting,
    )


def empty(name, since=0.0):
    return HostId(name), 2, since


def busy(name, free=0):
    return HostId(name), free, None


@pytest.mark.parametrize(
    ("now", "config", "starts"),
    [
        (pool(), settings(min_hosts=3), 3),
        (pool(starting=3), settings(min_hosts=3), 0),
        (pool(busy("a", 1)), settings(idle_hosts=2), 2),
        (pool(busy("a", 1), starting=1), settings(idle_hosts=2), 1),
        (pool(busy("a"), waiting=5), settings(idle_hosts=0), 3),
        (pool(empty("a"), waiting=2), settings(), 0),
        (pool(busy("a"), others=4, waiting=9), settings(), 0),
        (pool(busy("a"), others=3, waiting=9), settings(), 1),
        (pool(empty("a")), settings(), 0),
    ],
)
def test_starts_what_is_missing_within_the_limit(now, config, starts):
    assert plan(now, config, now=0.0).start == starts


def test_retires_hosts_that_stayed_empty_longest_first():
    hosts = pool(empty("a", 10.0), empty("b", 5.0), empty("c", 50.0), busy("d", 1))
    todo = plan(hosts, settings(), now=10.0 + LINGER_S)
    assert (todo.start, todo.retire) == (0, ("b", "a"))
    todo = plan(hosts, settings(), now=5.0 + LINGER_S)
    assert todo.retire == ("b",)
    assert todo.look_again_at == 10.0 + LINGER_S


def test_never_goes_below_the_minimum_or_the_idle_pool():
    late = 10 * LINGER_S
    assert plan(pool(empty("a"), empty("b")), settings(min_hosts=2), now=late).retire == ()
    assert plan(pool(empty("a"), busy("b", 1)), settings(), now=late).retire == ()
    assert plan(pool(empty("a"), empty("b"), waiting=1), settings(), now=late).retire == ()


def test_a_drain_starts_hosts_for_waiting_jobs_only():
    hosts = pool(busy("a"))
    assert plan(hosts, settings(), now=0.0, growing=False).start == 0
    assert plan(pool(busy("a"), waiting=1), settings(), now=0.0, growing=False).start == 1
    retire = plan(pool(empty("a"), empty("b")), settings(), now=1e6, growing=False).retire
    assert retire == ()


def gate():
    return StartGate(Backoff(first_s=1.0, limit_s=8.0), random.Random(1))


def test_a_gate_is_open_until_something_fails():
    one = gate()
    assert one.allowance(0.0, starting=7) is None
    assert one.opens_at(0.0) is None


def test_a_failure_holds_starts_back_longer_and_longer():
    one = gate()
    pauses = []
    now = 0.0
    for _ in range(6):
        one.failed(now)
        opens = one.opens_at(now)
        assert one.allowance(now, starting=0) == 0
        assert one.allowance(opens, starting=0) == 1
        assert one.allowance(opens, starting=1) == 0
        pauses.append(opens - now)
        now = opens
    assert 0.5 <= pauses[0] <= 1.0
    assert 4.0 <= pauses[-1] <= 8.0


def test_failures_are_forgotten_once_a_later_start_has_stayed():
    one = gate()
    one.failed(10.0)
    one.stands(ready_at=5.0, now=100.0)
    assert one.failures == 1
    one.stands(ready_at=12.0, now=12.0 + YOUNG_S / 2)
    assert one.failures == 1
    one.stands(ready_at=12.0, now=12.0 + YOUNG_S)
    assert one.allowance(30.0, starting=3) is None


def test_what_is_lost_young_counts_as_failed():
    one = gate()
    one.lost(ready_at=0.0, now=YOUNG_S)
    assert one.failures == 0
    one.lost(ready_at=0.0, now=YOUNG_S / 2)
    assert one.failures == 1
