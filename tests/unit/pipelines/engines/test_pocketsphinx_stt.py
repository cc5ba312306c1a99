"""The real pocketsphinx hears what the real espeak-ng says."""

import logging

import numpy as np
import psutil
import pytest

from tests.fakes.speech import RATE, frames, spoken
from voxray.base.errors import EngineConfigError
from voxray.pipelines.engines.base import (
    AudioInput,
    EndOfInput,
    FlushInput,
    SpeechEdgeOutput,
    TranscriptOutput,
)
from voxray.pipelines.engines.pocketsphinx_stt import PocketsphinxEngine

GRAMMAR = """#JSGF V1.0; grammar timetable;
<city> = Berlin | Chicago | Munich | Paris;
public <next> = when does the (next | last) train to <city> leave;
public <platform> = which platform does the train to <city> leave from;
public <length> = how long does it take to <city>;
"""
SENTENCES = [
    "when does the next train to Berlin leave",
    "when does the last train to Paris leave",
    "which platform does the train to Munich leave from",
    "how long does it take to Chicago",
]


@pytest.fixture
def stt(bench):
    return bench(PocketsphinxEngine())


def hear(stt, session, samples, *last):
    outputs = []
    for frame in frames(samples):
        outputs += stt.run(session, AudioInput(frame))
    return outputs + stt.run(session, *last) if last else outputs


def finals(outputs):
    return [
        output.text for output in outputs if isinstance(output, TranscriptOutput) and output.final
    ]


def test_sentences_of_the_grammar_are_heard_right(stt):
    session = stt.open(grammar=GRAMMAR)
    heard = [finals(hear(stt, session, spoken(sentence))) for sentence in SENTENCES]
    assert heard == [[sentence] for sentence in SENTENCES]


def test_what_is_discarded_is_not_transcribed(stt):
    session = stt.open(grammar=GRAMMAR, interim_results=False)
    outputs = hear(stt, session, spoken(SENTENCES[0])[:RATE], FlushInput(discard=True))
    assert [type(each) for each in outputs] == [SpeechEdgeOutput, SpeechEdgeOutput]
    assert finals(hear(stt, session, spoken(SENTENCES[1]))) == [SENTENCES[1]]


def test_two_calls_with_one_grammar_are_not_mixed_up(stt):
    first, second = stt.open(grammar=GRAMMAR), stt.open(grammar=GRAMMAR)
    outputs = {id(first): [], id(second): []}
    for one, other in zip(frames(spoken(SENTENCES[0])), frames(spoken(SENTENCES[3])), strict=False):
        outputs[id(first)] += stt.run(first, AudioInput(one))
        outputs[id(second)] += stt.run(second, AudioInput(other))
    for session in (first, second):
        outputs[id(session)] += stt.run(session, EndOfInput())
    assert finals(outputs[id(first)]) == [SENTENCES[0]]
    assert finals(outputs[id(second)]) == [SENTENCES[3]]


def test_interim_results_grow_and_the_final_one_comes_before_the_end_edge(stt):
    outputs = hear(stt, stt.open(grammar=GRAMMAR), spoken(SENTENCES[0]))
    start, *middle, end = outputs
    assert start == SpeechEdgeOutput(True, pytest.approx(0.4, abs=0.1))
    assert isinstance(end, SpeechEdgeOutput)
    assert not end.speaking
    *interims, final = middle
    assert final.final
    assert interims
    assert not any(output.final for output in interims)
    assert interims[0].text.startswith("when does")
    assert 0 < start.at_s <= final.start_s < final.end_s == end.at_s < 3.4
    assert final.language == "en"


def test_without_interim_results_there_are_none(stt):
    outputs = hear(stt, stt.open(grammar=GRAMMAR, interim_results=False), spoken(SENTENCES[0]))
    assert len(outputs) == 3


@pytest.mark.parametrize("last", [FlushInput(), EndOfInput()])
def test_flush_and_end_finish_the_utterance_at_once(stt, last):
    session = stt.open(grammar=GRAMMAR)
    cut_short = spoken(SENTENCES[3], after_s=0.0)
    assert finals(hear(stt, session, cut_short)) == []
    assert finals(stt.run(session, last)) == [SENTENCES[3]]


def test_a_flush_is_answered_by_a_final_transcript_also_without_words(stt):
    """A turn that is committed by hand waits for it."""
    session = stt.open(grammar=GRAMMAR)
    assert [output.text for output in stt.run(session, FlushInput())] == [""]
    assert finals(hear(stt, session, spoken(SENTENCES[3]))) == [SENTENCES[3]]
    (nothing,) = stt.run(session, FlushInput())
    assert (nothing.text, nothing.final) == ("", True)
    assert nothing.start_s <= nothing.end_s
    hear(stt, session, spoken("I really like bananas and cheese", after_s=0.0))
    assert finals(stt.run(session, FlushInput())) == [""]


def test_what_the_grammar_has_no_words_for_gives_no_transcript(stt):
    outputs = hear(stt, stt.open(grammar=GRAMMAR), spoken("I really like bananas and cheese"))
    assert finals(outputs) == []
    edges = [output.speaking for output in outputs if isinstance(output, SpeechEdgeOutput)]
    assert edges == [True, False]


def test_silence_and_noise_say_nothing_at_all(stt):
    noise = np.random.default_rng(3).normal(0, 200, 2 * RATE).astype(np.int16)
    for samples in (np.zeros(2 * RATE, np.int16), noise, np.empty(0, np.int16)):
        session = stt.open(grammar=GRAMMAR)
        assert stt.run(session, AudioInput(samples), EndOfInput()) == []


def test_someone_who_never_stops_is_transcribed_in_parts(stt):
    """An hour of speech without a pause must not be kept until its end."""
    session = stt.open(grammar=GRAMMAR, interim_results=False, min_silence_s=60.0)
    outputs = []
    for _ in range(14):
        outputs += hear(stt, session, spoken(SENTENCES[3], before_s=0.1, after_s=0.2))
    parts = [output for output in outputs if isinstance(output, TranscriptOutput)]
    edges = [output for output in outputs if isinstance(output, SpeechEdgeOutput)]
    assert len(edges) == 1
    assert session.listener._cutter.length_s < 30.1
    assert all(part.end_s - part.start_s < 31 for part in parts)


def test_the_bundled_language_model_follows_more_calls_than_it_has_decoders(stt):
    sessions = [stt.open() for _ in range(4)]
    outputs = [[] for _ in sessions]
    for frame in frames(spoken("yes", after_s=0.6), seconds=0.1):
        for session, said in zip(sessions, outputs, strict=True):
            said.extend(stt.run(session, AudioInput(frame)))
    assert [len(finals(said)) for said in outputs] == [1] * 4


def test_an_utterance_that_is_abandoned_leaves_nothing_in_its_decoder(stt):
    session = stt.open()
    long = spoken("how long does it take to Chicago and when does the next train to Paris leave")
    assert finals(stt.run(session, AudioInput(long[:-RATE]))) == []
    session.close()
    (heard,) = finals(hear(stt, stt.open(), spoken("yes", after_s=0.6)))
    assert len(heard.split()) <= 3


def test_a_grammar_costs_little_memory_and_many_streams_of_it_hardly_more(stt):
    stt.run(stt.open(grammar=GRAMMAR), AudioInput(spoken(SENTENCES[0])))
    process = psutil.Process()
    before = process.memory_info().rss
    for _ in range(30):
        session = stt.open(grammar=GRAMMAR)
        stt.run(session, AudioInput(spoken(SENTENCES[0])))
    assert process.memory_info().rss - before < 30e6
    before = process.memory_info().rss
    for number in range(3):
        other = GRAMMAR.replace("timetable", f"other{number}")
        stt.run(stt.open(grammar=other), AudioInput(spoken(SENTENCES[0])))
    assert process.memory_info().rss - before < 45e6


def test_grammars_that_nobody_uses_are_forgotten(stt):
    for number in range(20):
        stt.open(grammar=GRAMMAR.replace("timetable", f"other{number}")).close()
    assert len(stt.engine._models) <= 9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grammar": "hello"}, "grammar: a grammar begins with"),
        (
            {"grammar": "#JSGF V1.0; grammar g; public <q> = when (the;"},
            r"grammar: rule <q>: `\(` is never closed",
        ),
        (
            {"grammar": "#JSGF V1.0; grammar g; public <q> = when xyzzy plugh;"},
            "no pronunciation for plugh, xyzzy",
        ),
        ({"grammar": GRAMMAR, "language_model": "x"}, "not both"),
        ({"language_model": "/nowhere/x.lm"}, "language_model: there is no file /nowhere/x.lm"),
        ({"dictionary": "/nowhere/x.dict"}, "dictionary: there is no file"),
        ({"language": "de"}, "language 'de': the bundled acoustic model is English"),
        ({"threshold": 2.0}, "thresholds must hold"),
        ({"min_silence_s": -1}, "min_silence_s must be 0 to 60"),
        ({"colour": "red"}, "unknown option: colour"),
    ],
)
def test_faults_are_named_when_the_stream_opens(stt, options, message):
    with pytest.raises(EngineConfigError, match=message):
        stt.open(**options)


def test_a_file_that_is_no_language_model_fails_its_stream_in_one_line(stt, tmp_path):
    path = tmp_path / "broken.lm"
    path.write_text("this is no language model")
    session = stt.open(language_model=str(path))
    with pytest.raises(EngineConfigError, match=r"can't be loaded .*broken\.lm"):
        stt.run(session, AudioInput(np.zeros(512, np.int16)))


def test_a_dictionary_of_the_programs_own_adds_words(stt, tmp_path):
    path = tmp_path / "own.dict"
    path.write_text("xyzzy Y EH S\n")
    session = stt.open(grammar="#JSGF V1.0; grammar g; public <q> = xyzzy;", dictionary=str(path))
    assert finals(hear(stt, session, spoken("yes"))) == ["xyzzy"]


def test_pocketsphinx_keeps_quiet(stt, capfd, caplog):
    caplog.set_level(logging.DEBUG)
    with pytest.raises(EngineConfigError):
        stt.open(grammar="#JSGF V1.0; grammar g; public <q> = <q> yes;")
    hear(stt, stt.open(grammar=GRAMMAR), spoken(SENTENCES[0]))
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
