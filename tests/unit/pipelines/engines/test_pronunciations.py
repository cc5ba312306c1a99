"""The index over a pronouncing dictionary."""

import pytest

from voxray.pipelines.engines.pronunciations import PronunciationDictionary


@pytest.fixture
def dictionary(tmp_path):
    path = tmp_path / "words.dict"
    path.write_text(
        "the DH AH\nthe(2) DH IY\nberlin B ER L IH N\n\nberlins B ER L IH N Z\nend EH N D"
    )
    return PronunciationDictionary(path)


def test_all_pronunciations_of_a_word_are_found(dictionary):
    assert dictionary.lookup("the") == ["DH AH", "DH IY"]
    assert dictionary.lookup("end") == ["EH N D"]


def test_parts_of_words_are_not_words(dictionary):
    assert dictionary.lookup("ber") == []
    assert dictionary.lookup("the(2") == []
    assert dictionary.lookup("") == []


def test_entries_are_spelled_as_the_grammar_spells_them(dictionary):
    text, missing = dictionary.entries(frozenset({"Berlin", "the", "xyzzy"}))
    assert text == "Berlin B ER L IH N\nthe DH AH\nthe(2) DH IY\n"
    assert missing == ["xyzzy"]
