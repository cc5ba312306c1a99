"""Edges of speech from probabilities."""

import pytest

from voxray.pipelines.engines.endpointing import (
    Endpointer,
    EndpointingOptions,
    SpeechEnded,
    SpeechStarted,
)

WINDOW_S = 0.032
OPTIONS = EndpointingOptions(min_speech_s=0.064, min_silence_s=0.096, prefix_padding_s=0.1)


def edges(probabilities, options=OPTIONS, endpointer=None):
    endpointer = endpointer or Endpointer(options)
    found = [endpointer.push(probability, WINDOW_S) for probability in probabilities]
    return [(number, edge) for number, edge in enumerate(found, 1) if edge is not None]


def test_speech_starts_where_it_was_first_heard_and_is_told_later():
    ((number, edge),) = edges([0.1] * 10 + [0.9] * 2)
    assert number == 12
    assert isinstance(edge, SpeechStarted)
    assert edge.at_s == pytest.approx(10 * WINDOW_S)
    assert edge.from_s == pytest.approx(10 * WINDOW_S - 0.1)


def test_a_click_is_not_speech():
    assert edges([0.1, 0.9, 0.1, 0.9, 0.1] * 4) == []


def test_speech_ends_where_the_voice_ceased():
    (_, (number, edge)) = edges([0.9] * 5 + [0.1] * 3)
    assert number == 8
    assert edge == SpeechEnded(pytest.approx(5 * WINDOW_S))


def test_a_short_pause_belongs_to_the_speech():
    assert len(edges([0.9] * 5 + [0.1] * 2 + [0.9] * 5 + [0.1] * 2)) == 1


def test_a_voice_that_trails_off_is_kept_by_the_lower_threshold():
    assert len(edges([0.9] * 3 + [0.4] * 20)) == 1
    # The same probability starts nothing.
    assert edges([0.4] * 20) == []


def test_padding_never_reaches_into_the_speech_before_or_before_the_beginning():
    found = edges([0.9] * 4 + [0.0] * 3 + [0.9] * 2)
    first, ended, second = (edge for _, edge in found)
    assert first.from_s == 0
    assert second.from_s == pytest.approx(ended.at_s)


def test_flush_ends_speech_at_once_and_time_goes_on():
    endpointer = Endpointer(OPTIONS)
    assert endpointer.flush() is None
    edges([0.9] * 4, endpointer=endpointer)
    assert endpointer.speaking
    assert endpointer.flush() == SpeechEnded(pytest.approx(4 * WINDOW_S))
    assert not endpointer.speaking
    ((_, edge),) = edges([0.9] * 2, endpointer=endpointer)
    assert edge.at_s == pytest.approx(4 * WINDOW_S)


def test_a_sum_of_windows_is_not_missed_by_a_rounding_error():
    options = EndpointingOptions(min_silence_s=0.352)
    found = edges([0.9] * 1000 + [0.0] * 11, options)
    assert [number for number, _ in found] == [2, 1011]


@pytest.mark.parametrize(
    "bad",
    [
        {"activation_threshold": 1.5},
        {"activation_threshold": 0.3, "deactivation_threshold": 0.4},
        {"deactivation_threshold": 0.0},
        {"min_silence_s": -1.0},
        {"prefix_padding_s": float("nan")},
    ],
)
def test_senseless_options_are_refused(bad):
    with pytest.raises(ValueError, match="must"):
        EndpointingOptions(**bad)
