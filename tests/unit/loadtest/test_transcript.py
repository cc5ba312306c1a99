"""Transcription streams put together."""

from voxray.loadtest.transcript import Transcript


def attributes(segment, *, final=False):
    return {"lk.segment_id": segment, "lk.transcription_final": str(final).lower()}


def test_growing_stream_of_the_agent():
    transcript = Transcript()
    segment = transcript.begin("agent", "s1", attributes("A"))
    transcript.grow(segment, "s1", "The train ")
    assert transcript.words_of("agent") == "The train"
    assert not transcript.settled("agent")
    transcript.grow(segment, "s1", "The train leaves.")
    transcript.end(segment, "s1", attributes("A", final=True))
    assert transcript.words_of("agent") == "The train leaves."
    assert transcript.settled("agent")


def test_streams_that_replace_each_other():
    transcript = Transcript()
    for stream, text, final in (("s1", "when", False), ("s2", "when does it", True)):
        segment = transcript.begin("caller", stream, attributes("A", final=final))
        transcript.grow(segment, stream, text)
        transcript.end(segment, stream, attributes("A", final=final))
    assert transcript.words_of("caller") == "when does it"
    assert transcript.settled("caller")


def test_text_stays_until_its_successor_has_some():
    transcript = Transcript()
    segment = transcript.begin("caller", "s1", attributes("A"))
    transcript.grow(segment, "s1", "when")
    transcript.begin("caller", "s2", attributes("A"))
    assert transcript.words_of("caller") == "when"


def test_late_words_of_a_replaced_stream_do_not_count():
    transcript = Transcript()
    segment = transcript.begin("caller", "s1", attributes("A"))
    transcript.begin("caller", "s2", attributes("A"))
    transcript.grow(segment, "s2", "new")
    transcript.grow(segment, "s1", "old")
    assert transcript.words_of("caller") == "new"


def test_segments_of_one_speaker_are_joined_in_order():
    transcript = Transcript()
    for name, text in (("A", "First."), ("B", "Second.")):
        transcript.grow(transcript.begin("agent", name, attributes(name)), name, text)
    transcript.grow(transcript.begin("caller", "C", attributes("C")), "C", "Other")
    assert transcript.words_of("agent") == "First. Second."


def test_stream_without_segment_id():
    transcript = Transcript()
    transcript.grow(transcript.begin("agent", "s1", {}), "s1", "Hello")
    assert transcript.words_of("agent") == "Hello"


def test_words_of_an_earlier_turn_are_forgotten():
    transcript = Transcript()
    segment = transcript.begin("agent", "s1", attributes("A"))
    transcript.clear()
    transcript.grow(segment, "s1", "late words of the greeting")
    transcript.end(segment, "s1", attributes("A", final=True))
    assert transcript.words_of("agent") == ""
    assert not transcript.settled("agent")
