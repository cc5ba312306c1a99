"""When batches close, what is in them, and what is learnt from them."""

import pytest

from voxray.pipelines.batching import Batcher, BatchLimits, CostModel

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
    assert made.take(0.0).items == ((1, ("a", "b", "c")), (2, ("z",)))


def test_a_long_queue_lines_up_again_behind_the_others():
    made = batcher([1, 2], BatchLimits(max_batch=1, latency_budget_s=0.0, inputs_per_turn=2))
    for item in "abcde":
        made.put(1, item, 0.0)
    made.put(2, "z", 0.1)
    order = [made.take(0.2).items[0] for _ in range(4)]
    assert order == [(1, ("a", "b")), (2, ("z",)), (1, ("c", "d")), (1, ("e",))]


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


def test_the_cost_model_finds_both_parts():
    cost = CostModel(prior_fixed_s=0.0)
    for round_ in range(400):
        size = 1 + round_ % 16
        cost.observe(size, 0.004 + 0.0005 * size)
    assert cost.fixed_s == pytest.approx(0.004, rel=0.1)
    assert cost.per_item_s == pytest.approx(0.0005, rel=0.1)


def test_the_cost_model_follows_a_machine_that_slows_down():
    cost = CostModel()
    for round_ in range(600):
        size = 1 + round_ % 4
        cost.observe(size, (0.001 if round_ < 300 else 0.003) * size)
    assert cost.per_item_s == pytest.approx(0.003, rel=0.1)


def test_batches_of_one_size_do_not_upset_the_cost_model():
    cost = CostModel()
    assert cost.fixed_s == pytest.approx(0.0002)
    assert cost.per_item_s == 0
    for _ in range(50):
        cost.observe(1, 0.0012)
    assert cost.fixed_s == pytest.approx(0.0002, rel=0.5)
    assert cost.per_item_s == pytest.approx(0.001, rel=0.1)
