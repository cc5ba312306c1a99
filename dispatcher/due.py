"""Which of many things is due next: set, moved and dropped in logarithmic time."""

import heapq
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class DueTimes(Generic[K]):
    """Keys with the monotonic time at which each is due."""

    def __init__(self) -> None:
        self._due: dict[K, float] = {}
        # Entries of the heap that are not in the dictionary (any more) are skipped.
        self._heap: list[tuple[float, int, K]] = []
        self._number = 0

    def __len__(self) -> int:
        return len(self._due)

    def get(self, key: K) -> float | None:
        """Return when a key is due."""
        return self._due.get(key)

    def set(self, key: K, due: float) -> None:
        """Set when a key is due, whatever was set before."""
        if self._due.get(key) == due:
            return
        self._due[key] = due
        self._number += 1
        heapq.heappush(self._heap, (due, self._number, key))

    def drop(self, key: K) -> None:
        """Forget a key."""
        self._due.pop(key, None)

    def next(self) -> float | None:
        """Return when the first key is due."""
        heap = self._heap
        while heap and self._due.get(heap[0][2]) != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def pop_due(self, now: float) -> Iterator[K]:
        """Take out the keys that are due by now, first things first, one at a time."""
        while (due := self.next()) is not None and due <= now:
            key = heapq.heappop(self._heap)[2]
            del self._due[key]
            yield key
