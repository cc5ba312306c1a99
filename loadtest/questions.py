"""What callers ask, and the facts that a right answer holds.

Random questions about the timetable of the example, the same ones for the same seed, or a file:
a JSON or YAML list of `{say: what to ask, expect: [fact, ...]}`. How facts are compared, and how
to give several wordings of one, is told in `facts`.
"""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from voxray.base.errors import ConfigError
from voxray.loadtest.example import Destination
from voxray.loadtest.facts import spoken_number, spoken_time, words

_KEYS = frozenset({"say", "expect"})


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question.

    Attributes:
        say: the sentence, spoken as it stands.
        expect: facts that a right answer holds, as `facts.holds` reads them.
        topic: what it asks about; questions of one topic lead to the same tool.
        place: the destination it asks about.
    """

    say: str
    expect: tuple[str, ...]
    topic: str = ""
    place: str = ""


def timetable_questions(
    destinations: Sequence[Destination], rng: random.Random
) -> tuple[Question, ...]:
    """Return every question that the timetable can answer, in random order."""
    questions = [question for place in destinations for question in _about(place)]
    rng.shuffle(questions)
    return tuple(questions)


def pick_different(questions: Sequence[Question], count: int) -> tuple[Question, ...]:
    """Return the first `count` questions that differ in topic and in place.

    When topics or places run out, questions that repeat one of them fill the rest.
    """
    picked: list[Question] = []
    for question in questions:
        if len(picked) < count and not any(
            question.topic == other.topic or question.place == other.place for other in picked
        ):
            picked.append(question)
    rest = (question for question in questions if question not in picked)
    picked.extend(question for question, _ in zip(rest, range(count - len(picked)), strict=False))
    return tuple(picked)


def deal(questions: Sequence[Question], rooms: int, turns: int) -> tuple[tuple[Question, ...], ...]:
    """Hand out questions: for each room one for each turn.

    In any one turn no two rooms ask the same, as long as there are as many questions as rooms.
    """
    count = len(questions)
    return tuple(
        tuple(questions[(turn * rooms + room) % count] for turn in range(turns))
        for room in range(rooms)
    )


def load_questions(path: Path) -> tuple[Question, ...]:
    """Read a file of questions.

    Raises:
        ConfigError: it can't be read, or names the place of what is wrong with it.
    """
    try:
        text = path.read_text(encoding="utf-8")
        # JSON is told by its ending: as YAML, a fault in it would be explained in YAML's words.
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text") from error
    except json.JSONDecodeError as error:
        place = f"{path}:{error.lineno}:{error.colno}"
        raise ConfigError(f"{place}: is not valid JSON: {error.msg}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not valid YAML: {error}") from error
    if not isinstance(content, list) or not content:
        raise ConfigError(f"{path}: must hold a list of questions, each with `say` and `expect`")
    return tuple(
        _parse(f"{path}: question {number}", item) for number, item in enumerate(content, 1)
    )


def _parse(place: str, item: Any) -> Question:
    if not isinstance(item, dict):
        raise ConfigError(f"{place}: must be a mapping with `say` and `expect`")
    if unknown := sorted(str(key) for key in item if key not in _KEYS):
        raise ConfigError(f"{place}: unknown key: {', '.join(unknown)}; known: expect, say")
    say, expect = item.get("say"), item.get("expect")
    if not isinstance(say, str) or not words(say):
        raise ConfigError(f"{place}: `say` must be the sentence to speak")
    facts = expect if isinstance(expect, list) else []
    if not facts or not all(isinstance(fact, str) and words(fact) for fact in facts):
        raise ConfigError(f"{place}: `expect` must be a list of phrases that the answer holds")
    return Question(say=say, expect=tuple(facts))


def _about(place: Destination) -> Iterator[Question]:
    """Yield the questions about one destination, in several wordings."""
    name = place.name

    def question(topic: str, say: str, *expect: str) -> Question:
        return Question(say=say, expect=(name, *expect), topic=topic, place=name)

    first, *later = place.departures
    at = spoken_time(first.at)
    yield question("next_train", f"When does the next train to {name} leave?", at)
    yield question("platform_of", *_platform(f"next train to {name}", first.platform))
    yield question("platform_of", *_platform(f"{at} train to {name}", first.platform))
    for before, departure in zip(place.departures, later, strict=False):
        hour = int(before.at.split(":")[0]) + 1
        after = f"after {spoken_number(hour)} o'clock"
        yield question(
            "next_train",
            f"When does the next train to {name} leave {after}?",
            spoken_time(departure.at),
        )
        train = f"{spoken_time(departure.at)} train to {name}"
        yield question("platform_of", *_platform(train, departure.platform))
    yield question("journey_time", f"How long does it take to get to {name}?", _time(place))
    yield question("ticket_price", f"How much is a ticket to {name}?", _price(place))
    yield question(
        "changes_on_the_way", f"Do I have to change trains on the way to {name}?", _changes(place)
    )


def _platform(train: str, platform: int) -> tuple[str, str]:
    return (
        f"Which platform does the {train} leave from?",
        f"platform {spoken_number(platform)}",
    )


def _time(place: Destination) -> str:
    hours, minutes = divmod(place.minutes, 60)
    parts = [f"{spoken_number(hours)} hour{'s' if hours > 1 else ''}"] if hours else []
    parts += [f"{spoken_number(minutes)} minute{'s' if minutes > 1 else ''}"] if minutes else []
    return f"{' '.join(parts)}|{spoken_number(place.minutes)} minutes"


def _price(place: Destination) -> str:
    return f"{spoken_number(place.price)} {place.currency}"


def _changes(place: Destination) -> str:
    if place.changes == 0:
        return "direct|no changes|no change|without changing|zero changes|not have to change"
    times = {1: "once", 2: "twice"}.get(place.changes, f"{spoken_number(place.changes)} times")
    plural = "s" if place.changes > 1 else ""
    return f"{spoken_number(place.changes)} change{plural}|change {times}|change trains {times}"
