"""What is learnt from batches that ran."""

import pytest

from voxray.pipelines.cost_model import CostModel


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
