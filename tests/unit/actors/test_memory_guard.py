import threading

from hypothesis import given
from hypothesis import strategies as st

from voxray.actors.memory_guard import MemoryGuard, MemoryJudge, MemoryVerdict, used_mb


def test_without_limits_nothing_is_judged():
    judge = MemoryJudge(0, 0)
    assert judge.lowest_mb is None
    assert judge.judge(1e6, 0.0) is MemoryVerdict.FINE


def test_a_warning_comes_again_after_a_pause_or_when_usage_grew():
    judge = MemoryJudge(100, 0)
    told = [
        judge.judge(used, at)
        for at, used in enumerate((90, 101, 120, 152, 153, *(150,) * 120), start=0)
    ]
    assert [at for at, verdict in enumerate(told) if verdict is MemoryVerdict.WARN] == [1, 3, 123]


@given(st.lists(st.floats(0, 500)), st.sampled_from([0.0, 100.0]), st.sampled_from([0.0, 300.0]))
def test_over_the_limit_is_over_whatever_came_before(samples, warn, limit):
    judge = MemoryJudge(warn, limit)
    for at, used in enumerate(samples):
        verdict = judge.judge(used, float(at))
        assert (verdict is MemoryVerdict.OVER) == (limit > 0 and used > limit)
        assert verdict is not MemoryVerdict.WARN or used > warn > 0


def test_the_guard_tells_once_how_much_is_used():
    told: list[float] = []
    over = threading.Event()

    def on_over(used: float) -> None:
        told.append(used)
        over.set()

    guard = MemoryGuard(MemoryJudge(1, 2), on_over, interval_s=0.01)
    guard.start()
    assert over.wait(20)
    guard.stop()
    guard.stop()
    assert len(told) == 1
    assert 2 < told[0] < 100_000
    assert used_mb() > 2


def test_a_guard_without_limits_does_not_run():
    guard = MemoryGuard(MemoryJudge(0, 0), lambda _: None)
    guard.start()
    guard.stop()
