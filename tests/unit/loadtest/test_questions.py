"""Questions: from the timetable, and from a file."""

import importlib.util
import random
import sys

import pocketsphinx
import pytest

from voxray.base.errors import ConfigError
from voxray.loadtest.example import example_folder, load_destinations
from voxray.loadtest.facts import words
from voxray.loadtest.questions import deal, load_questions, pick_different, timetable_questions


def all_questions(seed=1):
    return timetable_questions(load_destinations(), random.Random(seed))


def test_same_seed_same_questions():
    assert all_questions(7) == all_questions(7)
    assert all_questions(7) != all_questions(8)
    assert sorted(q.say for q in all_questions(7)) == sorted(q.say for q in all_questions(8))


def test_every_question_has_facts_of_its_own():
    questions = all_questions()
    assert len({question.say for question in questions}) == len(questions) >= 40
    for question in questions:
        assert question.place in question.expect
        assert len(question.expect) == 2


def test_every_question_is_in_the_grammar_of_the_example():
    path = example_folder() / "timetable.py"
    spec = importlib.util.spec_from_file_location("example_timetable", path)
    timetable = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = timetable  # Dataclasses look their module up.
    try:
        spec.loader.exec_module(timetable)
    finally:
        del sys.modules[spec.name]
    trains = timetable.load_timetable(example_folder() / "trains.json")
    decoder = pocketsphinx.Decoder(lm=None, loglevel="FATAL")
    decoder.add_jsgf_string("timetable", timetable.speech_grammar(trains))
    decoder.activate_search("timetable")
    grammar = decoder.get_fsg("timetable")
    unknown = [q.say for q in all_questions() if not grammar.accept(" ".join(words(q.say)))]
    assert unknown == []


def test_picked_questions_differ_in_topic_and_place():
    for seed in range(20):
        picked = pick_different(all_questions(seed), 3)
        assert len({question.topic for question in picked}) == 3
        assert len({question.place for question in picked}) == 3


def test_more_questions_than_topics_are_filled_up():
    picked = pick_different(all_questions(), 12)
    assert len(set(picked)) == 12


def test_no_two_rooms_ask_the_same_at_once():
    dealt = deal(all_questions(), rooms=6, turns=4)
    assert [len(turns) for turns in dealt] == [4] * 6
    for at_once in zip(*dealt, strict=True):
        assert len(set(at_once)) == 6
    assert all(len(set(turns)) == 4 for turns in dealt)


def test_few_questions_are_dealt_again():
    questions = all_questions()[:2]
    assert deal(questions, rooms=1, turns=3) == ((questions[0], questions[1], questions[0]),)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("q.json", '[{"say": "How far?", "expect": ["ten miles", "far|away"]}]'),
        ("q.yaml", "- say: How far?\n  expect: [ten miles, far|away]\n"),
    ],
)
def test_questions_from_a_file(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    (question,) = load_questions(path)
    assert question.say == "How far?"
    assert question.expect == ("ten miles", "far|away")


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("q.json", "[{]", "q.json:1:3: is not valid JSON"),
        ("q.yaml", "a: [", "is not valid YAML"),
        ("q.yaml", "", "must hold a list"),
        ("q.yaml", "say: x", "must hold a list"),
        ("q.yaml", "- hello", "question 1: must be a mapping"),
        ("q.yaml", "- {say: a, expect: [b]}\n- {expect: [b]}", "question 2: `say`"),
        ("q.yaml", "- {say: '!', expect: [b]}", "question 1: `say`"),
        ("q.yaml", "- {say: a, expect: b}", "question 1: `expect`"),
        ("q.yaml", "- {say: a, expect: []}", "question 1: `expect`"),
        ("q.yaml", "- {say: a, expect: [b, 3]}", "question 1: `expect`"),
        ("q.yaml", "- {say: a, expect: [b], tool: c}", "unknown key: tool"),
    ],
)
def test_faults_of_a_file_are_named(tmp_path, name, text, fault):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        load_questions(path)
    assert fault in str(error.value)


def test_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="can't be read"):
        load_questions(tmp_path / "none.yaml")


def test_file_that_is_not_text(tmp_path):
    path = tmp_path / "q.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_questions(path)
