"""When batches close, what is in them, and what is learnt from them."""

import pytest

from voxray.pipelines.batching import Batcher, BatchLimits
from voxray.pipelines.cost_model import CostModel

LIMITS = BatchLimits(max_batch=4, latency_budget_s=0.008)


def batcher(keys=(), limits=LIMITS, cost=None):
    made = Batcher(limits, cost)
    for key in keys:
        made.open(key)
    return made


def settle_rhythm(made, keys, *, interval_s=0.02, until_s=1.0):
    """Let streams bring an input every interval, so that they are expected to go on."""
    now_s = 0.0
    while now_s < until_s:
        for key in keys:
            made.put(key, "x", now_s)
        while made.take(now_s) is not None:
            pass
        now_s += interval_s
    return now_s


def test_nothing_waits_nothing_closes():
    made = batcher([1])
    assert made.close_at_s(5.0) is None
    assert made.take(5.0) is None


def test_a_lone_stream_is_not_held_back():
    made = batcher([1])
    now_s = settle_rhythm(made, [1])
    made.put(1, "a", now_s)
    assert made.close_at_s(now_s) == now_s


def test_company_that_is_expected_soon_is_waited_for_up_to_the_budget():
    made = batcher([1, 2])
    now_s = settle_rhythm(made, [1, 2])
    made.put(1, "a", now_s)
    assert made.close_at_s(now_s) == pytest.approx(now_s + 0.008)
    # The second one comes: there is nobody left to wait for.
    made.put(2, "b", now_s + 0.003)
    assert made.close_at_s(now_s + 0.003) == now_s + 0.003
    batch = made.take(now_s + 0.003)
    assert batch.items == ((1, ("a",)), (2, ("b",)))
    assert batch.oldest_s == pytest.approx(now_s)


def test_a_stream_that_paused_is_not_waited_for():
    made = batcher([1, 2])
    now_s = settle_rhythm(made, [1, 2])
    for _ in range(3):
        now_s += 0.02
        made.put(1, "a", now_s)
        made.take(now_s)
    made.put(1, "a", now_s + 0.02)
    assert made.close_at_s(now_s + 0.02) == now_s + 0.02


def test_company_that_comes_after_the_budget_is_not_waited_for():
    made = batcher([1, 2])
    now_s = settle_rhythm(made, [1, 2])
    made.put(2, "b", now_s)
    made.take(now_s)
    made.put(1, "a", now_s + 0.001)  # The next of stream 2 is due in 19 ms.
    assert made.close_at_s(now_s + 0.001) == now_s + 0.001


def test_closing_the_one_that_was_awaited_releases_the_batch():
    made = batcher([1, 2])
    now_s = settle_rhythm(made, [1, 2])
    made.put(1, "a", now_s)
    made.close(2)
    assert made.close_at_s(now_s) == now_s


def test_a_full_batch_closes_at_once_and_the_rest_is_next():
    made = batcher(range(6))
    now_s = settle_rhythm(made, range(6))
    for key in range(5):
        made.put(key, "a", now_s)
    assert made.close_at_s(now_s) == now_s
    assert [key for key, _ in made.take(now_s).items] == [0, 1, 2, 3]
    assert [key for key, _ in made.take(now_s).items] == [4]


def test_where_sharing_saves_nothing_nobody_waits():
    cost = CostModel()
    for size in (1, 2, 3, 4):
        cost.observe(size, 0.05 * size)
    made = batcher([1, 2], cost=cost)
    now_s = settle_rhythm(made, [1, 2])
    made.put(1, "a", now_s)
    assert made.close_at_s(now_s) == now_s


def test_inputs_of_a_stream_stay_together_and_in_order():
    made = batcher([1, 2])
    for item in "abc":
        made.put(1, item, 0.0)
    made.put(2, "z", 0.0)
    # The one with the least work is first: an engine that goes item by item has it done sooner.
    assert made.take(0.0).items == ((2, ("z",)), (1, ("a", "b", "c")))


def test_a_long_queue_lines_up_again_behind_the_others():
    made = batcher([1, 2], BatchLimits(max_batch=1, latency_budget_s=0.0, inputs_per_turn=2))
    for item in "abcde":
        made.put(1, item, 0.0)
    made.put(2, "z", 0.1)
    order = [made.take(0.2).items[0] for _ in range(4)]
    assert order == [(1, ("a", "b")), (2, ("z",)), (1, ("c", "d")), (1, ("e",))]


def learnt(seconds_each):
    """A model of work that is sure of itself."""
    work = CostModel(prior_fixed_s=0.0)
    for weight in (1.0, 2.0, 3.0):
        work.observe(weight, seconds_each * weight)
    return work


def test_a_backlog_lengthens_a_batch_by_no_more_than_a_turn():
    limits = BatchLimits(max_batch=4, latency_budget_s=0.0, turn_s=0.05)
    made = Batcher(limits, work=learnt(0.01))
    made.open(1)
    made.open(2)
    for number in range(20):
        made.put(1, number, 0.0)
    made.put(2, "z", 0.0)
    batch = made.take(0.0)
    # The first of each, and five more of 10 ms.
    assert batch.items == ((2, ("z",)), (1, (0, 1, 2, 3, 4, 5)))
    assert batch.weight == 7


def test_backlogs_share_the_turn_equally():
    limits = BatchLimits(max_batch=4, latency_budget_s=0.0, turn_s=0.04)
    made = Batcher(limits, work=learnt(0.01))
    for key in (1, 2):
        made.open(key)
        for number in range(9):
            made.put(key, number, 0.0)
    assert made.take(0.0).items == ((1, (0, 1, 2)), (2, (0, 1, 2)))


def test_an_input_that_costs_more_than_a_turn_still_runs():
    made = Batcher(BatchLimits(max_batch=4, latency_budget_s=0.0, turn_s=0.01), work=learnt(1.0))
    made.open(1)
    made.put(1, "heavy", 0.0, weight=30.0)
    made.put(1, "next", 0.0, weight=30.0)
    made.put(1, "flush", 0.0, weight=0.0)
    assert made.take(0.0).items == ((1, ("heavy",)),)
    assert made.take(0.0).items == ((1, ("next", "flush")),)


def test_a_backlog_is_not_held_back_for_company():
    limits = BatchLimits(max_batch=4, latency_budget_s=0.008, inputs_per_turn=1)
    made = batcher([1, 2], limits)
    now_s = settle_rhythm(made, [1, 2])
    made.put(1, "a", now_s)
    made.put(1, "b", now_s)
    made.take(now_s)
    assert made.close_at_s(now_s + 0.001) == now_s + 0.001


def test_the_oldest_input_of_a_batch_is_told_however_often_it_was_passed_over():
    made = batcher([1], BatchLimits(max_batch=1, latency_budget_s=0.0, inputs_per_turn=1))
    made.put(1, "a", 1.0)
    made.put(1, "b", 2.0)
    assert [made.take(9.0).oldest_s for _ in range(2)] == [1.0, 2.0]


def test_a_full_queue_refuses_but_takes_the_end():
    made = batcher([1], BatchLimits(max_batch=1, latency_budget_s=0.0, queue_limit=2))
    assert made.put(1, "a", 0.0)
    assert made.put(1, "b", 0.0)
    assert not made.put(1, "c", 0.0)
    assert made.put(1, "end", 0.0, force=True)
    assert made.take(0.0).items == ((1, ("a", "b", "end")),)


def test_work_of_a_closed_stream_never_runs():
    made = batcher([1, 2])
    made.put(1, "a", 0.0)
    made.put(2, "b", 0.0)
    assert made.close(1) == 1
    assert made.close(1) == 0
    assert made.take(0.0).items == ((2, ("b",)),)
    assert len(made) == 1


def test_a_held_stream_waits_and_its_neighbours_do_not():
    made = batcher((1, 2))
    for key in (1, 2):
        made.put(key, f"first of {key}", 0.0)
    made.hold(1)
    made.put(1, "second of 1", 0.1)
    assert made.take(0.1).items == ((2, ("first of 2",)),)
    assert made.close_at_s(0.2) is None
    made.release(1, 0.3)
    assert made.close_at_s(0.3) == 0.3
    assert made.take(0.3).items == ((1, ("first of 1", "second of 1")),)


def test_a_held_stream_may_be_closed_or_released_with_nothing_to_do():
    made = batcher((1,))
    made.hold(1)
    made.release(1, 0.0)
    assert made.close_at_s(0.0) is None
    made.hold(1)
    made.put(1, "lost", 0.0)
    assert made.close(1) == 1
    made.release(1, 0.0)
    assert made.take(0.0) is None


def test_a_key_is_opened_once():
    with pytest.raises(ValueError, match="open already"):
        batcher([1, 1])
