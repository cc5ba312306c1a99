"""Whether an answer holds the facts that were asked for, however it words its numbers.

Pure. A fact is a phrase such as `platform four`, or several that mean the same, separated by
`|` (`direct|no changes`). Answers and facts are compared as words: case, punctuation, digits
(`9:15` is `nine fifteen`, `118` is `one hundred eighteen`) and the word `and` make no difference.
"""

import re
from collections.abc import Iterable

_BELOW_TWENTY = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
    fifteen sixteen seventeen eighteen nineteen
"""
_ONES = _BELOW_TWENTY.split()
_TENS = {n * 10: w for n, w in enumerate(["twenty", "thirty", "forty", "fifty", "sixty"], 2)}
_TENS |= {70: "seventy", 80: "eighty", 90: "ninety"}
_ALTERNATIVE = "|"
_LARGEST = 9999

_TIME = re.compile(r"\b(\d{1,2}):(\d{2})\b")
_DOLLARS = re.compile(r"\$\s?(\d+)")
_NUMBER = re.compile(r"\d+")
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")


def spoken_number(number: int) -> str:
    """Return a number from 0 to 9999 in words, without `and`.

    Raises:
        ValueError: it is outside that range.
    """
    if not 0 <= number <= _LARGEST:
        raise ValueError(f"only numbers from 0 to {_LARGEST} can be put in words, not {number}")
    for size, name in ((1000, "thousand"), (100, "hundred")):
        if number >= size:
            rest = f" {spoken_number(number % size)}" if number % size else ""
            return f"{spoken_number(number // size)} {name}{rest}"
    if number < 20:
        return _ONES[number]
    ten = _TENS[number - number % 10]
    return f"{ten} {_ONES[number % 10]}" if number % 10 else ten


def spoken_time(time: str) -> str:
    """Return how a time of day (`09:15`) is spoken (`nine fifteen`)."""
    hour, minute = (int(part) for part in time.split(":"))
    past_the_hour = spoken_number(minute) if minute else "o'clock"
    return f"{spoken_number(hour)} {past_the_hour}"


def words(text: str) -> tuple[str, ...]:
    """Return a text as plain lower-case words, numbers spelled out."""
    text = text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    text = _TIME.sub(lambda time: f" {spoken_time(time[0])} ", text)
    text = _DOLLARS.sub(r"\1 dollars", text)
    text = _NUMBER.sub(_spell, text)
    return tuple(word for word in _WORD.findall(text) if word != "and")


def missing_facts(answer: str, expected: Iterable[str]) -> tuple[str, ...]:
    """Return the expected facts that an answer does not hold."""
    said = words(answer)
    return tuple(
        fact
        for fact in expected
        if not any(_contains(said, words(phrase)) for phrase in fact.split(_ALTERNATIVE))
    )


def holds(answer: str, expected: Iterable[str]) -> bool:
    """Return whether an answer holds all expected facts."""
    return not missing_facts(answer, expected)


def word_errors(said: str, heard: str) -> float:
    """Return the word error rate of a transcript: edits for each word that was said."""
    want, got = words(said), words(heard)
    if not want:
        return float(bool(got))
    row = list(range(len(got) + 1))
    for i, expected in enumerate(want, 1):
        above, row = row, [i]
        for j, found in enumerate(got, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (expected != found)))
    return row[-1] / len(want)


def _spell(number: re.Match[str]) -> str:
    value = int(number[0])
    return f" {spoken_number(value)} " if value <= _LARGEST else f" {number[0]} "


def _contains(said: tuple[str, ...], phrase: tuple[str, ...]) -> bool:
    length = len(phrase)
    return length > 0 and any(
        said[start : start + length] == phrase for start in range(len(said) - length + 1)
    )
