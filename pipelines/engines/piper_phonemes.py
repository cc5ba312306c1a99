"""Text as the phonemes of a Piper voice: clauses from espeak-ng, marks, sentences, numbers.

A Piper voice was trained on what espeak-ng makes of a text: IPA in decomposed characters, each
clause with the mark that ended it, each sentence between a beginning and an end.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

PhonemeIds: TypeAlias = tuple[int, ...]

_BEGIN, _END, _PAD = "^", "$", "_"
_SENTENCE_ENDS = frozenset(".?!")
_MARKS: Mapping[str, str] = dict(
    zip(".?!,;:…。।॥۔！？؟，、،；؛：—–", ".?!,;:.....!??,,,;;:,,", strict=True)
)
# Marks of all scripts, as the voices know them.
_CLOSING = "\"'”’»)]}›」』 \t\r\n"
# What may stand between a mark and the end of its clause.
_LANGUAGE_SWITCH = re.compile(r"\([^)]*\)")
# espeak-ng notes a word of another language as (en)...(de).
_SENTENCE_GAP = re.compile(r"(?<=[.?!])\s+")
_STRESS = "ˈˌː"
# Letters to Unicode that sound only together with others.
_ABBREVIATIONS = frozenset(
    ["dr", "hr", "fr", "mr", "mrs", "ms", "no", "nr", "prof", "sr", "jr", "st", "vs"]
)
# Their dot ends a clause of espeak-ng, and no sentence.


@dataclass(frozen=True, slots=True)
class Clause:
    """One clause: its phonemes without a mark, and the mark that ended it, if one did."""

    phonemes: str
    mark: str


def clause(phonemes: str, source: str) -> Clause:
    """Return a clause from espeak-ng's phonemes and the text that they were read from."""
    spoken = unicodedata.normalize("NFD", _LANGUAGE_SWITCH.sub("", phonemes)).strip()
    text = source.rstrip(_CLOSING)
    mark = _MARKS.get(text[-1:], "")
    if mark == ".":
        words = text.rstrip(".").split()
        if words and words[-1].lower() in _ABBREVIATIONS:
            mark = ""
    return Clause(spoken, mark)


def letters(text: str) -> list[Clause]:
    """Return the clauses of a text for a voice that was trained on letters."""
    found = []
    for sentence in _SENTENCE_GAP.split(unicodedata.normalize("NFD", text.lower())):
        mark = sentence[-1:] if sentence[-1:] in _SENTENCE_ENDS else ""
        found.append(Clause(sentence.removesuffix(mark).strip(), mark))
    return found


def sentences(clauses: Iterable[Clause], longest: int) -> Iterator[str]:
    """Yield what to speak at a time: sentences; longer ones in parts at clauses, then words.

    Args:
        clauses: of a text, in order.
        longest: phonemes in one part at most; a longer word stays whole.
    """
    part = ""
    for each in clauses:
        if not each.phonemes:
            continue
        for words in _cut(each.phonemes, longest):
            if part and len(part) + len(words) + 1 > longest:
                yield part.rstrip()
                part = ""
            part += f" {words}" if part and not part.endswith(" ") else words
        part += each.mark
        if each.mark in _SENTENCE_ENDS:
            yield part
            part = ""
        elif each.mark:
            part += " "
    if part.strip():
        yield part.rstrip()


def _cut(phonemes: str, longest: int) -> Iterator[str]:
    """Yield phonemes in parts of at most `longest`, cut between words."""
    while len(phonemes) > longest:
        at = phonemes.rfind(" ", 1, longest + 1)
        if at < 0:
            at = phonemes.find(" ", longest)
        if at < 0:
            break
        yield phonemes[:at]
        phonemes = phonemes[at + 1 :]
    yield phonemes


class PhonemeTable:
    """The numbers of a voice's phonemes."""

    def __init__(self, ids: Mapping[str, PhonemeIds], replaced: Mapping[str, str]) -> None:
        """Take a voice's table.

        Args:
            ids: phoneme to numbers, with the beginning, the end and the pad.
            replaced: phonemes that the voice writes in another way.

        Raises:
            ValueError: the beginning, the end or the pad is missing.
        """
        if missing := [mark for mark in (_BEGIN, _END, _PAD) if mark not in ids]:
            raise ValueError(f"its phoneme_id_map lacks {' '.join(missing)}")
        self._ids = ids
        self._replaced = replaced

    def number(self, sentence: str) -> PhonemeIds:
        """Return the numbers of a sentence's phonemes; one that the voice lacks is left out.

        Nothing at all is returned for a sentence without a phoneme that the voice knows.
        """
        pad = self._ids[_PAD]
        numbers: list[int] = [*self._ids[_BEGIN], *pad]
        empty = True
        for phoneme in sentence:
            for each in self._replaced.get(phoneme, phoneme):
                known = self._ids.get(each)
                if known is None:
                    continue
                empty = empty and not (each.isalnum() and each not in _STRESS)
                numbers += (*known, *pad)
        return () if empty else (*numbers, *self._ids[_END])
