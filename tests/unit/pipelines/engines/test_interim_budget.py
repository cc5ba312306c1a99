"""What interim results may cost."""

from hypothesis import given
from hypothesis import strategies as st

from voxray.pipelines.engines.interim_budget import InterimBudget


def test_nothing_is_saved_up_at_the_beginning_and_nothing_without_a_share():
    budget = InterimBudget(0.25)
    assert budget.allowed(4, 0.0) == 0
    assert budget.allowed(4, 0.1) == 1
    assert InterimBudget(0.0).allowed(4, 10.0) == 0


def test_as_many_are_heard_as_there_is_time_for():
    budget = InterimBudget(0.5, round_s=0.4)
    budget.allowed(1, 0.0)
    assert budget.allowed(8, 10.0) == 1
    budget.spent(1, 0.1)
    assert budget.allowed(8, 20.0) == 4
    assert budget.allowed(2, 20.0) == 2


def test_a_debt_is_paid_before_anything_else_is_heard():
    budget = InterimBudget(0.5, round_s=0.2)
    budget.allowed(1, 0.0)
    assert budget.allowed(1, 1.0) == 1
    budget.spent(1, 1.0)
    assert budget.allowed(1, 2.0) == 0
    assert budget.allowed(1, 3.0) == 1


@given(
    share=st.floats(0.01, 0.9),
    steps=st.lists(
        st.tuples(st.floats(0.001, 1.0), st.integers(1, 20), st.floats(0.001, 2.0)), max_size=60
    ),
)
def test_no_more_than_the_share_is_spent_but_for_the_last_round(share, steps):
    budget, now_s, spent_s, longest_s = InterimBudget(share), 0.0, 0.0, 0.0
    budget.allowed(1, now_s)
    for pause_s, waiting, each_s in steps:
        now_s += pause_s
        count = budget.allowed(waiting, now_s)
        assert count <= waiting
        if count:
            seconds = count * each_s
            budget.spent(count, seconds)
            now_s += seconds
            spent_s += seconds
            longest_s = max(longest_s, seconds)
    assert spent_s <= share * now_s + longest_s + 1e-6
