"""Keys in the order of their ranks: the lowest is at hand, a change costs the logarithm."""

from collections.abc import Collection
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

K = TypeVar("K", bound=str)
R = TypeVar("R", float, tuple[int, int])

_SPARE = 32
"""Outdated entries that a heap may always hold: a small one is not worth tidying."""


class Ranked(Generic[K, R]):
    """A map from keys to ranks that knows its lowest; equal ranks go by key.

    A changed or dropped key leaves its old entry in the heap; it is passed over when it comes up,
    and swept out once such entries are the majority, so that a change stays cheap on average.
    """

    def __init__(self) -> None:
        self._ranks: dict[K, R] = {}
        self._heap: list[tuple[R, K]] = []

    def __len__(self) -> int:
        return len(self._ranks)

    def rank(self, key: K) -> R | None:
        """Return a key's rank, or None when it has none."""
        return self._ranks.get(key)

    def put(self, key: K, rank: R) -> None:
        """Give a key a rank, its first or another one."""
        if self._ranks.get(key) == rank:
            return
        self._ranks[key] = rank
        heappush(self._heap, (rank, key))
        if len(self._heap) > 2 * len(self._ranks) + _SPARE:
            self._heap = [(each, key) for key, each in self._ranks.items()]
            heapify(self._heap)

    def drop(self, key: K) -> None:
        """Take a key out, if it is in."""
        self._ranks.pop(key, None)

    def first(self, skip: Collection[K | None] = ()) -> tuple[R, K] | None:
        """Return the lowest rank and its key, those of `skip` passed over."""
        if skip:
            found = self.lowest(1, skip)
            return found[0] if found else None
        while self._heap:
            entry = self._heap[0]
            if self._ranks.get(entry[1]) == entry[0]:
                return entry
            heappop(self._heap)
        return None

    def lowest(self, count: int, skip: Collection[K | None] = ()) -> list[tuple[R, K]]:
        """Return up to `count` of the lowest ranks with their keys, lowest first."""
        found: list[tuple[R, K]] = []
        passed: list[tuple[R, K]] = []
        while self._heap and len(found) < count:
            entry = heappop(self._heap)
            if self._ranks.get(entry[1]) != entry[0] or (passed and passed[-1] == entry):
                continue
            passed.append(entry)
            if entry[1] not in skip:
                found.append(entry)
        for entry in passed:
            heappush(self._heap, entry)
        return found

    def take_until(self, rank: R) -> list[K]:
        """Take out all keys up to and including a rank, lowest first."""
        taken: list[K] = []
        while self._heap and self._heap[0][0] <= rank:
            each, key = heappop(self._heap)
            if self._ranks.get(key) == each:
                del self._ranks[key]
                taken.append(key)
        return taken
