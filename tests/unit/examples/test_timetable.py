"""The timetable of the example: its data, and the grammar that is made from it."""

import pocketsphinx
import pytest


@pytest.fixture
def grammar(timetable, trains):
    """The grammar as the speech recogniser reads it."""
    decoder = pocketsphinx.Decoder(lm=None, loglevel="FATAL")
    decoder.add_jsgf_string("timetable", timetable.speech_grammar(trains))
    decoder.activate_search("timetable")
    return decoder.get_fsg("timetable")


def test_trains_are_ordered_by_departure(trains):
    departures = [train.departs for train in trains.trains]
    assert departures == sorted(departures)
    assert len(departures) >= 12
    assert len(set(departures)) == len(departures)


def test_first_train_is_the_first_that_has_not_left(trains):
    assert trains.first_train("london").departs == "09:15"
    assert trains.first_train("London", "09:15").departs == "09:15"
    assert trains.first_train("London", "09:16").departs == "14:40"
    assert trains.first_train("London", "14:41") is None
    assert trains.first_train("Atlantis") is None


@pytest.mark.parametrize(
    ("time", "spoken"),
    [
        ("09:15", "nine fifteen"),
        ("14:40", "fourteen forty"),
        ("08:55", "eight fifty five"),
        ("20:00", "twenty o'clock"),
    ],
)
def test_spoken_time(timetable, time, spoken):
    assert timetable.spoken_time(time) == spoken


def test_every_destination_is_one_spoken_word(trains):
    # The rules of the offline language model read one word behind "to".
    assert all(name.isalpha() for name in trains.destinations)


def test_departures_sound_different(timetable, trains):
    # "nine fifteen" is heard as "nine fifty" more often than not where both may be said.
    spoken = {timetable.spoken_time(train.departs) for train in trains.trains}
    blurred = {time.replace("fourteen", "forty").replace("teen", "ty") for time in spoken}
    assert len(blurred) == len(spoken)


@pytest.mark.parametrize(
    "sentence",
    [
        "when does the next train to london leave",
        "hello what time is the first train to paris after ten thirty please",
        "which platform does the nine fifteen train to london leave from",
        "how long does it take to get to boston",
        "how much is a ticket to denver",
        "do i have to change trains on the way to berlin",
    ],
)
def test_grammar_knows_what_people_ask(grammar, sentence):
    assert grammar.accept(sentence)


@pytest.mark.parametrize(
    "sentence",
    [
        "please",
        "when does the next train to atlantis leave",
        # Nobody says it, yet "how long does it take to get to geneva" was once heard as it.
        "what does a ticket to geneva",
    ],
)
def test_grammar_knows_nothing_else(grammar, sentence):
    assert not grammar.accept(sentence)
