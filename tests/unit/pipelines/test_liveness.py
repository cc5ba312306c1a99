"""When a replica that says nothing counts as hanging."""

from voxray.pipelines.liveness import HANG_AFTER_S, Silence

INTERVAL_S = 0.2


def looks_until_it_hangs(silence, *, from_s=100.0, step_s=INTERVAL_S):
    now_s, looks = from_s, 1
    while not silence.look(now_s):
        now_s += step_s
        looks += 1
        assert looks < 100
    return now_s - from_s


def test_silence_for_long_enough_is_a_hang():
    assert HANG_AFTER_S <= looks_until_it_hangs(Silence(INTERVAL_S)) <= HANG_AFTER_S + INTERVAL_S


def test_a_word_begins_the_count_anew():
    silence = Silence(INTERVAL_S)
    for number in range(50):
        assert not silence.look(100.0 + number * INTERVAL_S)
        if number % 5 == 0:
            silence.heard()


def test_time_in_which_our_own_loop_stood_still_does_not_count():
    silence = Silence(INTERVAL_S)
    silence.look(100.0)
    assert not silence.look(160.0)
    assert silence.seconds < 2 * INTERVAL_S
