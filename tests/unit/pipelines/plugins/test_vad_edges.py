"""The state machine against livekit-agents' bundled VAD, given the same probabilities."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from livekit.agents import vad

from tests.fakes.bundled_vad import WINDOW, bundled_events
from voxray.pipelines.plugins.vad_edges import Moment, SpeechEdges, VADOptions

WINDOW_S = WINDOW / 16_000


TYPES = {
    Moment.ANALYSED: vad.VADEventType.INFERENCE_DONE,
    Moment.SPEECH_STARTED: vad.VADEventType.START_OF_SPEECH,
    Moment.SPEECH_ENDED: vad.VADEventType.END_OF_SPEECH,
}

durations = st.floats(0.0, 0.4)
some_options = st.builds(
    VADOptions,
    activation_threshold=st.floats(0.1, 0.9),
    deactivation_threshold=st.none() | st.floats(0.01, 0.9),
    min_speech_duration=durations,
    min_silence_duration=durations,
)
# Runs of voice and of silence: independent draws would hardly ever make a whole utterance.
runs = st.lists(st.tuples(st.floats(0.0, 1.0), st.integers(1, 12)), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(options=some_options, runs=runs)
def test_it_tells_what_the_bundled_vad_tells(
    options: VADOptions, runs: list[tuple[float, int]]
) -> None:
    probabilities = [probability for probability, count in runs for _ in range(count)]
    edges = SpeechEdges(options)
    ours = [
        happening
        for probability in probabilities
        for happening in edges.push(probability, WINDOW, WINDOW_S)
    ]

    told = [
        (
            TYPES[happening.moment],
            happening.samples_index,
            happening.timestamp_s,
            happening.speech_s,
            happening.silence_s,
            happening.speaking,
            happening.unbroken_speech_s,
            happening.unbroken_silence_s,
        )
        for happening in ours
    ]

    assert told == [
        (
            event.type,
            event.samples_index,
            event.timestamp,
            event.speech_duration,
            event.silence_duration,
            event.speaking,
            event.raw_accumulated_speech,
            event.raw_accumulated_silence,
        )
        for event in bundled_events(options, probabilities, bytes(2 * WINDOW * len(probabilities)))
    ]


def test_options_may_change_between_windows() -> None:
    edges = SpeechEdges(VADOptions(activation_threshold=0.9))
    assert len(edges.push(0.6, WINDOW, 0.1)) == 1
    edges.options = replace(edges.options, activation_threshold=0.5)
    assert [happening.moment for happening in edges.push(0.6, WINDOW, 0.1)] == [
        Moment.ANALYSED,
        Moment.SPEECH_STARTED,
    ]


def test_it_is_idle_only_in_silence_outside_speech() -> None:
    edges = SpeechEdges(VADOptions(min_speech_duration=0.2, min_silence_duration=0.2))
    seen = []
    for probability in (0.0, 1.0, 1.0, 0.0, 0.0):
        edges.push(probability, WINDOW, 0.1)
        seen.append(edges.idle)

    assert seen == [True, False, False, False, True]


@pytest.mark.parametrize(
    "wrong",
    [
        {"deactivation_threshold": 0.0},
        {"min_silence_duration": -0.1},
        {"max_buffered_speech": -1.0},
    ],
)
def test_senseless_options_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        VADOptions(**wrong)


def test_the_deactivation_threshold_follows_the_activation_threshold() -> None:
    assert VADOptions(activation_threshold=0.6).silent_below == pytest.approx(0.45)
    assert VADOptions(activation_threshold=0.1).silent_below == 0.01
    assert VADOptions(deactivation_threshold=0.2).silent_below == 0.2
