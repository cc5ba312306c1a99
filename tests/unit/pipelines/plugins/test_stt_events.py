from livekit.agents.stt import SpeechEvent, SpeechEventType

from voxray.pipelines.engines.base import EngineOutput, SpeechEdgeOutput, TranscriptOutput
from voxray.pipelines.plugins.stt_events import SpeechEvents, StreamTimes

TIMES = StreamTimes(offset_s=10.0, zero_at=1000.0)

START = SpeechEventType.START_OF_SPEECH
INTERIM = SpeechEventType.INTERIM_TRANSCRIPT
FINAL = SpeechEventType.FINAL_TRANSCRIPT
END = SpeechEventType.END_OF_SPEECH
USAGE = SpeechEventType.RECOGNITION_USAGE


def interim(text: str) -> TranscriptOutput:
    return TranscriptOutput(text=text, final=False, start_s=1.0, end_s=1.5)


def final(text: str) -> TranscriptOutput:
    return TranscriptOutput(text=text, final=True, start_s=1.0, end_s=2.0, confidence=0.75)


def run(*outputs: EngineOutput, interim_results: bool = True) -> list[SpeechEvent]:
    events = SpeechEvents("id", interim_results=interim_results)
    return [event for output in outputs for event in events.take(output, TIMES)]


def kinds(events: list[SpeechEvent]) -> list[SpeechEventType]:
    return [event.type for event in events]


def test_words_start_the_speech_and_a_final_ends_it() -> None:
    events = run(interim("next"), interim("next train"), final("next train to york"))

    assert kinds(events) == [START, INTERIM, INTERIM, FINAL, END]
    assert {event.request_id for event in events} == {"id"}


def test_times_count_from_the_start_of_the_input() -> None:
    start, words, end = run(final("hello"))

    assert (words.alternatives[0].start_time, words.alternatives[0].end_time) == (11.0, 12.0)
    assert words.alternatives[0].confidence == 0.75
    assert words.alternatives[0].language == "en"
    assert start.speech_start_time == 1001.0
    assert words.speech_end_time == end.speech_end_time == 1002.0


def test_edges_of_the_engine_are_told() -> None:
    events = run(SpeechEdgeOutput(True, 0.8), final("hello"), SpeechEdgeOutput(False, 1.9))

    assert kinds(events) == [START, FINAL, END]
    assert events[0].speech_start_time == 1000.8
    assert events[2].speech_end_time == 1001.9


def test_a_long_speech_has_finals_before_its_end() -> None:
    events = run(
        SpeechEdgeOutput(True, 0.8), final("one"), final("two"), SpeechEdgeOutput(False, 1.9)
    )

    assert kinds(events) == [START, FINAL, FINAL, END]


def test_an_end_edge_without_speech_is_old_news() -> None:
    assert kinds(run(final("hello"), SpeechEdgeOutput(False, 2.0))) == [START, FINAL, END]


def test_speech_without_words_starts_and_ends() -> None:
    edges = (SpeechEdgeOutput(True, 0.8), SpeechEdgeOutput(False, 1.9))

    assert kinds(run(*edges, *edges)) == [START, END, START, END]


def test_a_start_that_comes_twice_is_told_once() -> None:
    """A stream was lost amid speech, and its successor hears the rest."""
    events = run(SpeechEdgeOutput(True, 0.8), SpeechEdgeOutput(True, 0.1), final("hello"))

    assert kinds(events) == [START, FINAL]


def test_a_final_without_words_is_told_but_starts_nothing() -> None:
    (words,) = run(final(""))

    assert words.type is FINAL
    assert words.alternatives[0].text == ""


def test_the_next_speech_does_not_inherit_the_end_of_an_empty_one() -> None:
    events = run(final(""), interim("yes"), final("yes please"))

    assert kinds(events) == [FINAL, START, INTERIM, FINAL, END]
    assert events[-1].speech_end_time == 1002.0


def test_interims_can_be_left_out() -> None:
    assert kinds(run(interim("next"), final("next"), interim_results=False)) == [START, FINAL, END]


def test_empty_interims_are_left_out() -> None:
    assert run(interim("")) == []


def test_usage_is_told_with_each_final_and_now_and_then() -> None:
    events = SpeechEvents("id", interim_results=True)

    assert events.heard(2.0) == []
    (early,) = events.heard(3.5)
    assert early.recognition_usage is not None
    assert early.recognition_usage.audio_duration == 5.5
    events.heard(1.0)
    told = events.take(final("hello"), TIMES)
    assert kinds(told) == [START, FINAL, END, USAGE]
    assert told[-1].recognition_usage.audio_duration == 1.0
    assert events.bill() == []
