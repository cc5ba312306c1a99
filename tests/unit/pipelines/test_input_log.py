"""What a log of inputs keeps, numbers and drops."""

import pytest

from voxray.pipelines.engines.base import EndOfInput, FlushInput, TextInput
from voxray.pipelines.input_log import ALL_STREAMS, Frame, InputLog

SECOND = Frame(b"\0\0" * 8000, 8000)


def filled(*items, **bounds):
    log = InputLog(**bounds)
    for item in items:
        log.append(ALL_STREAMS if isinstance(item, Frame) else 1, item)
    return log


def test_entries_are_numbered_and_know_their_time():
    log = filled(SECOND, FlushInput(), SECOND)
    assert [(log.entry(n).number, log.entry(n).at_s, log.entry(n).end_s) for n in (1, 2, 3)] == [
        (1, 0.0, 1.0),
        (2, 1.0, 1.0),
        (3, 1.0, 2.0),
    ]
    assert (log.first, log.next, log.end_s) == (1, 4, 2.0)
    assert log.at_s(3) == 1.0
    assert log.at_s(4) == 2.0


def test_forgetting_keeps_numbers_and_times():
    log = filled(SECOND, SECOND, SECOND)
    log.forget(3)
    assert (log.first, log.next, log.end_s) == (3, 4, 3.0)
    assert log.entry(3).at_s == 2.0
    with pytest.raises(IndexError):
        log.entry(2)
    log.forget(99)
    assert (log.first, log.next) == (4, 4)


@pytest.mark.parametrize(
    "bounds", [{"retained_s": 2.0}, {"retained_bytes": 40_000}, {"retained_entries": 2}]
)
def test_the_oldest_is_dropped_beyond_each_bound(bounds):
    log = InputLog(**bounds)
    dropped = [log.append(ALL_STREAMS, SECOND) for _ in range(6)]
    numbers = [entry.number for entries in dropped for entry in entries]
    assert numbers == list(range(1, log.first))
    assert log.next - log.first in (2, 3)


def test_text_counts_for_the_bytes():
    log = filled(TextInput("a" * 10), TextInput("b" * 10), retained_bytes=15)
    assert log.first == 2


def test_the_newest_is_never_dropped():
    log = filled(SECOND, retained_bytes=1)
    assert (log.first, log.next) == (1, 2)


def test_what_is_needed_after_a_time_begins_with_the_unfinished_frame():
    log = filled(SECOND, SECOND, SECOND)
    assert [log.number_after(end_s) for end_s in (0.0, 1.0, 1.5, 3.0)] == [1, 2, 2, 4]


@pytest.mark.parametrize("control", [FlushInput(), EndOfInput()])
def test_a_flush_or_an_end_stays_needed_whatever_the_time(control):
    log = filled(SECOND, control, SECOND)
    assert log.number_after(2.0) == 2
