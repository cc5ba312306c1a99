"""From clauses of espeak-ng to what a Piper voice runs on."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxray.pipelines.engines.espeak_library import espeak_library
from voxray.pipelines.engines.piper_phonemes import (
    Clause,
    PhonemeTable,
    clause,
    letters,
    sentences,
)


def spoken(text, longest=300):
    clauses = [clause(*each) for each in espeak_library().phonemes(text, "en-us")]
    return list(sentences(clauses, longest))


def test_a_text_becomes_its_sentences_with_their_marks():
    assert spoken("Hello, world! How are you? Fine; thanks: I think…") == [
        "həlˈoʊ, wˈɜːld!",
        "hˈaʊ ɑːɹ juː?",
        "fˈaɪn; θˈæŋks: aɪ θˈɪŋk.",
    ]


@pytest.mark.parametrize("text", ["", " ", "\n", "...", "?!", "\0"])
def test_nothing_to_say_has_no_sentence(text):
    assert spoken(text) == []


@pytest.mark.parametrize("text", ["\ud800", "🚂", "[[h@l]]", "a" * 3000])
def test_odd_text_never_fails(text):
    spoken(text)


def test_an_abbreviation_ends_no_sentence():
    assert spoken("Dr. Smith is here.") == ["dˈɑːktɚ smˈɪθ ɪz hˈɪɹ."]


@pytest.mark.parametrize(
    ("source", "mark"),
    [
        ("yes.", "."),
        ("“yes.” ", "."),
        ("yes?) ", "?"),
        ("你好。", "."),
        ("はい、", ","),
        ("نعم؟", "?"),
        ("नमस्ते।", "."),
        ("so — ", ","),
        ("yes", ""),
        ("", ""),
        ("2.5", ""),
    ],
)
def test_the_mark_of_a_clause_is_read_from_its_text(source, mark):
    assert clause("x", source).mark == mark


def test_a_switch_of_language_is_no_phoneme_and_characters_are_decomposed():
    assert clause("(en)kˈuːl(de) ç", "cool ç").phonemes == "kˈuːl c\N{COMBINING CEDILLA}"
    assert unicodedata.is_normalized("NFD", clause("é", "é").phonemes)


def test_letters_are_cut_into_sentences_too():
    assert letters("Hello there. Où? End") == [
        Clause("hello there", "."),
        Clause("ou" + "\N{COMBINING GRAVE ACCENT}", "?"),
        Clause("end", ""),
    ]


CLAUSES = st.lists(
    st.builds(
        Clause,
        st.text("abc ", max_size=60).map(lambda text: " ".join(text.split())),
        st.sampled_from(["", ",", ";", ".", "?", "!"]),
    ),
    max_size=12,
)


@given(CLAUSES, st.integers(4, 40))
def test_every_phoneme_is_spoken_once_in_order_and_parts_are_bounded(clauses, longest):
    parts = list(sentences(clauses, longest))
    assert all(part.strip() == part and part for part in parts)
    words = [word for each in clauses for word in each.phonemes.split()]
    assert [word.rstrip(",;.?!") for part in parts for word in part.split()] == words
    for part in parts:
        # A word is never cut; a mark may come on top.
        assert len(part) <= longest + 1 or " " not in part.rstrip(",;.?! ")
        assert not any(mark in part[:-1] for mark in ".?!")


def test_numbers_have_a_beginning_an_end_and_pads_between():
    ids = {"_": (0,), "^": (1,), "$": (2,), "a": (5,), "b": (6, 7), "ˈ": (8,), " ": (3,)}
    table = PhonemeTable(ids, {"x": "ab"})
    assert table.number("ˈab") == (1, 0, 8, 0, 5, 0, 6, 7, 0, 2)
    assert table.number("x") == table.number("ab")
    assert table.number("a?") == table.number("a")
    assert table.number("") == table.number("?? ˈ") == ()


def test_a_table_without_its_frame_is_refused():
    with pytest.raises(ValueError, match=r"lacks \^ \$"):
        PhonemeTable({"_": (0,)}, {})
