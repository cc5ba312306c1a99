"""Comparing answers with facts."""

import pytest

from voxray.loadtest.facts import holds, missing_facts, spoken_number, spoken_time, word_errors


@pytest.mark.parametrize(
    ("number", "spoken"),
    [
        (0, "zero"),
        (14, "fourteen"),
        (40, "forty"),
        (95, "ninety five"),
        (118, "one hundred eighteen"),
        (410, "four hundred ten"),
        (9999, "nine thousand nine hundred ninety nine"),
    ],
)
def test_numbers_in_words(number, spoken):
    assert spoken_number(number) == spoken


def test_number_out_of_range():
    with pytest.raises(ValueError, match="10000"):
        spoken_number(10_000)


def test_times_in_words():
    assert spoken_time("09:15") == "nine fifteen"
    assert spoken_time("10:00") == "ten o'clock"


@pytest.mark.parametrize(
    ("answer", "fact"),
    [
        ("It leaves at 9:15.", "nine fifteen"),
        ("It leaves at 09:15.", "nine fifteen"),
        ("From PLATFORM 4!", "platform four"),
        ("That's $118.", "one hundred eighteen dollars"),
        ("One hundred and eighteen dollars", "118 dollars"),
        ("It takes 1 hour and 35 minutes", "one hour thirty five minutes|ninety five minutes"),
        ("It takes 95 minutes", "one hour thirty five minutes|ninety five minutes"),
        ("twenty-four dollars", "24 dollars"),
    ],
)
def test_same_fact_in_other_words(answer, fact):
    assert holds(answer, [fact])


@pytest.mark.parametrize(
    ("answer", "fact"),
    [
        ("From platform 14", "platform four"),
        ("at 9:50", "nine fifteen"),
        ("directly", "direct"),
        ("", "platform four"),
        ("platform. Track four", "platform four"),
    ],
)
def test_other_fact(answer, fact):
    assert not holds(answer, [fact])


def test_missing_facts_are_named():
    answer = "The train to London leaves from platform 4."
    assert missing_facts(answer, ["London", "9:15", "platform four"]) == ("9:15",)


def test_word_errors():
    assert word_errors("When does it leave?", "when does it leave") == 0
    assert word_errors("platform 4", "platform five") == 0.5
    assert word_errors("a b c d", "") == 1
    assert word_errors("one two", "one and two three") == 0.5
