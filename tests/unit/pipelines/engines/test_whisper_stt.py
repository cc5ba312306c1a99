"""The whole Whisper engine on models made here: what it says is known, or depends on the audio."""

import threading
from itertools import pairwise

import numpy as np
import pytest

from benchmarks.models import tiny_whisper
from benchmarks.models.tiny_whisper import Architecture
from tests.fakes.speech import RATE, frames, spoken
from voxray.base.errors import EngineConfigError
from voxray.pipelines.engines.base import (
    AudioInput,
    EndOfInput,
    FlushInput,
    SpeechEdgeOutput,
    TranscriptOutput,
    WorkItem,
)
from voxray.pipelines.engines.whisper_decoder import WhisperDecoder
from voxray.pipelines.engines.whisper_stt import WhisperEngine

WORDS = ["when", "does", "it", "leave?"]
TEXT = "when does it leave?"
SENTENCES = [
    spoken("When does the next train to Berlin leave?"),
    spoken("How long does it take to Chicago?"),
    spoken("Which platform?"),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {
        "sayer": tiny_whisper.make(folder / "sayer", words=WORDS),
        "unsure": tiny_whisper.make(folder / "unsure", words=WORDS, sure=False, silent=True),
        "random": tiny_whisper.make(folder / "random"),
        "many": tiny_whisper.make(folder / "many", Architecture(multilingual=True), words=WORDS),
    }


@pytest.fixture
def stt(bench, models):
    def make(model="sayer", **settings):
        return bench(WhisperEngine(model=str(models[model]), device="cpu", **settings))

    return make


def hear(stt, session, samples, *last):
    outputs = []
    for frame in frames(samples):
        outputs += stt.run(session, AudioInput(frame))
    return outputs + stt.run(session, *last) if last else outputs


def finals(outputs):
    return [each for each in outputs if isinstance(each, TranscriptOutput) and each.final]


def together(stt, sessions, inputs):
    outputs = [[] for _ in sessions]
    items = [
        WorkItem(session, given, output.append, lambda: False)
        for session, given, output in zip(sessions, inputs, outputs, strict=True)
    ]
    return list(stt.engine.run_batch(items)), outputs


def test_an_utterance_is_told_with_its_edges_and_its_confidence(stt):
    engine = stt()
    session = engine.open(interim_results=False)
    start, final, end = hear(engine, session, SENTENCES[0])
    assert start == SpeechEdgeOutput(True, pytest.approx(0.4, abs=0.1))
    assert (final.text, final.final, final.language) == (TEXT, True, "en")
    assert final.confidence > 0.9
    assert (final.start_s, final.end_s) == (start.at_s, end.at_s)
    assert not end.speaking


def test_a_flush_ends_the_utterance_and_is_always_answered(stt):
    engine = stt()
    session = engine.open(interim_results=False)
    start, final, end = hear(engine, session, SENTENCES[0][:RATE], FlushInput())
    assert (start.speaking, final.text, end.speaking) == (True, TEXT, False)
    (empty,) = hear(engine, session, np.zeros(RATE, np.int16), FlushInput())
    assert (empty.text, empty.final, empty.end_s) == ("", True, pytest.approx(2.0, abs=0.04))
    both = hear(engine, session, SENTENCES[2], EndOfInput())
    assert [each.text for each in finals(both)] == [TEXT]


def test_what_is_discarded_is_not_transcribed(stt):
    engine = stt()
    session = engine.open(interim_results=False)
    start, end = hear(engine, session, SENTENCES[0][:RATE], FlushInput(discard=True))
    assert (start.speaking, end.speaking) == (True, False)
    assert [each.text for each in finals(hear(engine, session, SENTENCES[2]))] == [TEXT]


def test_words_get_their_times_within_the_utterance(stt):
    engine = stt()
    session = engine.open(word_times=True, interim_results=False)
    (final,) = finals(hear(engine, session, SENTENCES[0]))
    assert [word.text for word in final.words] == WORDS
    times = [time for word in final.words for time in (word.start_s, word.end_s)]
    assert times == sorted(times)
    assert final.start_s - 0.4 <= times[0]
    assert times[-1] <= final.end_s + 0.5


def test_interim_results_come_before_the_final_one_and_only_if_there_is_time(stt):
    engine = stt(interim_share=0.9)
    said = hear(engine, engine.open(interim_interval_s=0.2), SENTENCES[0])
    transcripts = [each for each in said if isinstance(each, TranscriptOutput)]
    assert [each.final for each in transcripts] == [False, True]
    assert transcripts[0].end_s < transcripts[1].end_s
    none = stt(interim_share=0.0)
    assert len(finals(hear(none, none.open(), SENTENCES[0]))) == 1


def test_what_is_probably_no_speech_is_dropped_but_its_edges_are_told(stt):
    engine = stt("unsure")
    edges = hear(engine, engine.open(), SENTENCES[0])
    assert [edge.speaking for edge in edges] == [True, False]
    session = engine.open(no_speech_threshold=1.0)
    assert [each.text for each in finals(hear(engine, session, SENTENCES[0]))] == [TEXT]


def test_long_speech_is_cut_and_goes_on(stt):
    engine = stt()
    session = engine.open(max_utterance_s=1.5, interim_results=False)
    speech = np.concatenate([SENTENCES[0][RATE // 2 : 2 * RATE]] * 3)
    outputs = hear(engine, session, speech, FlushInput())
    said = finals(outputs)
    assert len(said) == 4
    assert [edge.speaking for edge in outputs if isinstance(edge, SpeechEdgeOutput)] == [
        True,
        False,
    ]
    for one, other in pairwise(said):
        assert one.end_s == other.start_s


def test_calls_that_are_heard_together_hear_what_each_hears_alone(stt):
    # Without the noise of 8-bit numbers, which may turn a word of a model that knows none.
    engine = stt("random", interim_share=0.0, compute_type="float32")
    alone = []
    for samples in SENTENCES:
        (final,) = finals(hear(engine, engine.open(), samples))
        alone.append(final)
    assert len({final.text for final in alone}) == len(SENTENCES)
    sessions = [engine.open() for _ in SENTENCES]
    errors, outputs = together(
        engine, sessions, [(AudioInput(samples), FlushInput()) for samples in SENTENCES]
    )
    assert errors == [None] * len(SENTENCES)
    for final, said in zip(alone, outputs, strict=True):
        heard, flushed = finals(said)
        assert flushed.text == ""
        assert (heard.text, heard.start_s, heard.end_s) == (final.text, final.start_s, final.end_s)


def test_all_calls_of_a_batch_share_one_pass_of_the_model(stt, monkeypatch):
    engine = stt(batch=2)
    passes = []
    original = WhisperDecoder._together
    monkeypatch.setattr(
        WhisperDecoder,
        "_together",
        lambda self, part: passes.append(len(part)) or original(self, part),
    )
    sessions = [
        engine.open(interim_results=False, prompt=prompt) for prompt in ("", "", "", "Berlin")
    ]
    audio = (AudioInput(SENTENCES[2]), FlushInput())
    errors, outputs = together(engine, sessions, [audio] * 4)
    assert errors == [None] * 4
    assert all(finals(each)[0].text == TEXT for each in outputs)
    # Two at a time, and another prompt needs a pass of its own.
    assert sorted(passes) == [1, 1, 2]


def test_an_utterance_that_can_not_be_heard_fails_alone(stt, monkeypatch):
    engine = stt()
    original = WhisperDecoder._features

    def features(self, utterance):
        if utterance.samples.max() == 32767:
            raise ValueError("poison")
        return original(self, utterance)

    monkeypatch.setattr(WhisperDecoder, "_features", features)
    sessions = [engine.open(interim_results=False) for _ in range(3)]
    bad = SENTENCES[2].copy()
    bad[RATE // 2] = 32767
    errors, outputs = together(
        engine,
        sessions,
        [(AudioInput(samples), FlushInput()) for samples in (SENTENCES[2], bad, SENTENCES[1])],
    )
    assert [type(error) for error in errors] == [type(None), ValueError, type(None)]
    assert [[final.text for final in finals(each)] for each in outputs] == [
        [TEXT, ""],
        [],
        [TEXT, ""],
    ]


def test_nothing_is_decoded_for_a_call_that_was_given_up(stt, monkeypatch):
    engine = stt()
    session = engine.open()
    gone = threading.Event()
    monkeypatch.setattr(
        WhisperDecoder, "decode", lambda *_: pytest.fail("decoded for nobody"), raising=True
    )
    emitted = []
    given = (AudioInput(SENTENCES[2]), FlushInput())

    class Session:
        """Gives up after its inputs were heard."""

    item = WorkItem(session, given, emitted.append, gone.is_set)
    original = session.ears.push
    monkeypatch.setattr(
        session.ears,
        "push",
        lambda one: (original(one), gone.set() if isinstance(one, FlushInput) else None),
    )
    assert list(engine.engine.run_batch([item])) == [None]
    assert finals(emitted) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"language": "de"}, "does not hear 'de': it hears English only"),
        ({"task": "sing"}, "task must be transcribe or translate"),
        ({"beam_size": 0}, "beam_size must be 1 to 10"),
        ({"max_utterance_s": 31.0}, "max_utterance_s must be 1 to 30 s"),
        ({"grammar": "x"}, "unknown option: grammar"),
        ({"prompt": "x" * 3000}, "3000 characters: 2000 at most"),
        ({"interim_interval_s": 0.0}, "interim_interval_s must be 0.2 to 60 s"),
        ({"no_speech_threshold": 2.0}, "no_speech_threshold must be 0 to 1"),
    ],
)
def test_options_that_can_not_be_met_are_refused(stt, options, message):
    engine = stt()
    with pytest.raises(EngineConfigError, match=message):
        engine.open(**options)


def test_a_multilingual_model_takes_languages_and_finds_them(stt):
    engine = stt("many")
    (final,) = finals(hear(engine, engine.open(language="pt-BR"), SENTENCES[2]))
    assert (final.text, final.language) == (TEXT, "pt")
    session = engine.open(language="", word_times=True, interim_results=False)
    (found,) = finals(hear(engine, session, SENTENCES[2]))
    assert found.text == TEXT
    assert len(found.language) in (2, 3)
    with pytest.raises(EngineConfigError, match=r"'tlh': it knows 100 others"):
        engine.open(language="tlh")


def test_it_says_what_it_is_before_its_model_is_loaded(models):
    info = WhisperEngine(model=str(models["sayer"])).info
    assert (info.name, info.model, info.provider, info.sample_rate) == (
        "whisper",
        "sayer",
        "faster-whisper",
        RATE,
    )
