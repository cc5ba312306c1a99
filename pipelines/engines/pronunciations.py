"""A pronouncing dictionary on disk, indexed so that a grammar's few words are found quickly.

A decoder with the whole bundled dictionary takes 29 MB, one with the words of a grammar 6 MB.
"""

from pathlib import Path

import numpy as np


class PronunciationDictionary:
    """A CMU dictionary: `word PH ON ES`, further pronunciations as `word(2) ...`."""

    def __init__(self, path: Path) -> None:
        """Read and index the file (5 MB for 135,000 words).

        Raises:
            OSError: it can't be read.
        """
        self._data = path.read_bytes()
        starts, hashes, place = [], [], 0
        for line in self._data.split(b"\n"):
            if line.strip():
                starts.append(place)
                hashes.append(hash(line.split(None, 1)[0]))
            place += len(line) + 1
        order = np.argsort(np.array(hashes, np.int64), kind="stable")
        self._hashes = np.array(hashes, np.int64)[order]
        self._starts = np.array(starts, np.int64)[order]

    def lookup(self, word: str) -> list[str]:
        """Return the pronunciations of a word in lower case; empty if it is unknown."""
        spelled = word.lower()
        found: list[str] = []
        while True:
            name = f"{spelled}({len(found) + 1})" if found else spelled
            phones = self._find(name.encode())
            if phones is None:
                return found
            found.append(phones)

    def entries(self, words: frozenset[str]) -> tuple[str, list[str]]:
        """Return a dictionary file of just these words, as they are spelled, and what is missing.

        A grammar may write `Berlin`: it is then heard as `Berlin`.
        """
        lines, missing = [], []
        for word in sorted(words):
            pronunciations = self.lookup(word)
            if not pronunciations:
                missing.append(word)
            for number, phones in enumerate(pronunciations, 1):
                lines.append(f"{word}({number}) {phones}" if number > 1 else f"{word} {phones}")
        return "\n".join(lines) + "\n", missing

    def _find(self, name: bytes) -> str | None:
        wanted = hash(name)
        at = int(np.searchsorted(self._hashes, wanted))
        while at < len(self._hashes) and self._hashes[at] == wanted:
            start = int(self._starts[at])
            end = self._data.find(b"\n", start)
            word, _, phones = self._data[start : end if end >= 0 else None].partition(b" ")
            if word == name:
                return phones.strip().decode()
            at += 1
        return None
