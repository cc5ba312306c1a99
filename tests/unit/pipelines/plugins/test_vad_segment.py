"""Frames and pace of a VAD segment; frames against those of livekit-agents' bundled VAD."""

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from livekit.agents import vad

from tests.fakes.bundled_vad import WINDOW, bundled_events
from voxray.pipelines.engines.base import ProbabilityOutput
from voxray.pipelines.plugins.vad_audio import VADAudio
from voxray.pipelines.plugins.vad_edges import VADOptions
from voxray.pipelines.plugins.vad_segment import VADSegment

runs = st.lists(st.tuples(st.floats(0.0, 1.0), st.integers(1, 12)), min_size=1, max_size=12)


class StoppedClock:
    now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s

    def wall(self) -> float:
        return self.now_s


def numbered(windows: int, samples: int = WINDOW) -> bytes:
    """Audio whose samples are the number of their window."""
    return np.repeat(np.arange(windows, dtype="<i2"), samples).tobytes()


def segment(rate: int = 16_000, **options: float) -> tuple[VADSegment, StoppedClock]:
    clock = StoppedClock()
    made = VADSegment(rate, VADOptions(**options), clock)
    made.attach(16_000)
    return made, clock


def take(made: VADSegment, probabilities: list[float]) -> list[vad.VADEvent]:
    return [
        event
        for index, probability in enumerate(probabilities, start=1)
        for event in made.take(ProbabilityOutput(index * WINDOW, probability, 0.0))
    ]


@settings(max_examples=60, deadline=None)
@given(runs=runs, padding=st.floats(0.0, 0.4), longest=st.floats(0.0, 1.0))
def test_frames_are_those_of_the_bundled_vad(
    runs: list[tuple[float, int]], padding: float, longest: float
) -> None:
    probabilities = [probability for probability, count in runs for _ in range(count)]
    options = {
        "prefix_padding_duration": padding,
        "max_buffered_speech": longest,
        "min_silence_duration": 0.1,
    }
    made, _ = segment(**options)
    pcm = numbered(len(probabilities))
    made.push(pcm)

    def frames(events: list[vad.VADEvent]) -> list[tuple[vad.VADEventType, bytes]]:
        return [(event.type, bytes(event.frames[0].data)) for event in events]

    ours = frames(take(made, probabilities))
    assert ours == frames(bundled_events(VADOptions(**options), probabilities, pcm))


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_windows_use_the_input_up_without_drift(rate: int) -> None:
    made, _ = segment(rate)
    seconds = 16  # A whole number of windows: 500.
    made.push(bytes(2 * rate * seconds))

    events = take(made, [0.0] * 500)

    lengths = [event.frames[0].samples_per_channel for event in events]
    assert sum(lengths) == rate * seconds
    assert max(lengths) - min(lengths) <= 1
    assert {event.frames[0].sample_rate for event in events} == {rate}


def test_a_window_that_comes_twice_counts_once() -> None:
    made, _ = segment()
    made.push(numbered(3))
    assert len(made.take(ProbabilityOutput(WINDOW, 0.0, 0.0))) == 1
    assert made.take(ProbabilityOutput(WINDOW, 0.0, 0.0)) == []


@pytest.mark.parametrize("rate", [8_000, 16_000, 24_000, 44_100, 48_000])
def test_a_new_stream_is_given_what_was_not_judged_and_what_came_before(rate: int) -> None:
    made, _ = segment(rate, min_silence_duration=0.1)
    count = rate * 40 // 1_000 * 25  # A second in frames of 40 ms: not whole windows.
    pcm = np.arange(count, dtype="<i2").tobytes()
    made.push(pcm)
    events = take(made, [0.0] * 18 + [1.0] * 2)
    assert events[-1].type is vad.VADEventType.START_OF_SPEECH
    heard = sum(
        len(event.frames[0].data)
        for event in events
        if event.type is vad.VADEventType.INFERENCE_DONE
    )

    again = made.attach(16_000)
    context = int(0.48 * rate)
    assert again == pcm[2 * (heard - context) :]
    made.push(pcm)
    events = take(made, [1.0] * 15 + [0.0] * 4)

    # The fifteen windows of before count no second time; the time goes on where it was.
    assert events[0].timestamp == pytest.approx(21 * 0.032)
    assert events[-1].type is vad.VADEventType.END_OF_SPEECH
    assert events[-1].timestamp == pytest.approx(24 * 0.032)
    first = bytes(events[0].frames[0].data.cast("B"))
    assert first == pcm[2 * heard : 2 * heard + len(first)]


def test_events_tell_how_late_the_result_is() -> None:
    made, clock = segment()
    made.push(numbered(1))
    clock.now_s += 0.015
    (event,) = take(made, [0.0])

    assert event.inference_duration == pytest.approx(0.015)


def test_an_engine_owes_a_window_from_when_it_has_all_of_it() -> None:
    made, clock = segment(24_000)
    made.push(bytes(2 * 700))  # A window is 768 samples.
    clock.now_s += 5.0
    assert made.stalled_s == 0.0
    made.push(bytes(2 * 100))
    clock.now_s += 2.0
    assert made.stalled_s == pytest.approx(2.0)
    made.attach(16_000)
    assert made.stalled_s == 0.0
    clock.now_s += 0.5
    assert made.stalled_s == pytest.approx(0.5)
    take(made, [0.0])
    assert made.stalled_s == 0.0


def test_audio_that_comes_at_once_is_not_late(caplog: pytest.LogCaptureFixture) -> None:
    made, clock = segment()
    made.push(numbered(100))
    for index in range(100):
        clock.now_s += 0.01
        made.take(ProbabilityOutput((index + 1) * WINDOW, 0.0, 0.0))

    assert caplog.records == []


def test_a_slow_engine_is_told(caplog: pytest.LogCaptureFixture) -> None:
    made, clock = segment()
    made.push(numbered(1))
    clock.now_s += 1.0
    with caplog.at_level(logging.WARNING):
        take(made, [0.0])

    (record,) = caplog.records
    assert "slower than realtime" in record.message
    assert record.delay == pytest.approx(0.968)


def test_speech_beyond_its_bound_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    made, _ = segment(max_buffered_speech=0.1)
    made.push(numbered(40))
    with caplog.at_level(logging.WARNING):
        take(made, [1.0] * 40)

    assert len(caplog.records) == 1
    assert "max_buffered_speech reached" in caplog.records[0].message


def test_audio_without_results_is_bounded() -> None:
    audio = VADAudio(8_000, 0.5, 60.0)
    for _ in range(40):
        audio.push(bytes(2 * 8_000), 0.0)

    kept = sum(len(audio.take(16_000, 16_000)) for _ in range(40)) / 2 / 8_000
    assert kept == 30


def test_a_shorter_speech_bound_cuts_what_is_kept() -> None:
    audio = VADAudio(8_000, 0.0, 60.0)
    audio.push(bytes(2 * 16_000), 0.0)
    audio.take(32_000, 16_000)
    audio.configure(0.0, 1.0)

    assert audio.full
    assert len(audio.speech()) == 2 * 8_000
