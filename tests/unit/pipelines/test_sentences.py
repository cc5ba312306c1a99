"""Texts into sentences."""

from hypothesis import given
from hypothesis import strategies as st

from voxray.pipelines.sentences import sentences


def test_sentences_come_one_by_one_and_short_ones_with_the_next():
    text = "The train leaves at ten past nine. It is late today! Yes.\nIs that all?"
    assert list(sentences(text)) == [
        "The train leaves at ten past nine.",
        "It is late today! Yes.",
        "Is that all?",
    ]


def test_what_has_no_end_is_cut_between_words():
    parts = list(sentences("word " * 1000))
    assert max(map(len, parts)) <= 1000
    assert len(parts) == 5
    assert set(" ".join(parts).split()) == {"word"}


@given(st.text(max_size=200) | st.text("ab.?! \n", max_size=200) | st.text("a", max_size=5000))
def test_nothing_is_lost_and_parts_are_bounded(text):
    parts = list(sentences(text))
    assert "".join("".join(parts).split()) == "".join(text.split())
    assert all(0 < len(part) <= 1000 for part in parts)
