"""A bounded channel between tasks of one event loop, which counts what passes.

Unlike `asyncio.Queue` it can be closed, tells a closed end from a failed one, and reports
statistics, so that every buffer of the system shows up in the metrics.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

from voxray.base.errors import StreamClosedError, StreamEndedError, StreamFinishedError

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ChannelStatistics:
    """What a channel holds and has seen.

    Attributes:
        buffered: items waiting now.
        limit: items it holds at most.
        sent: items accepted since the start.
        refused: `try_send` calls that found the channel full.
        waiting_senders: tasks held back by a full buffer now.
    """

    buffered: int
    limit: int
    sent: int
    refused: int
    waiting_senders: int


class Channel(Generic[T]):
    """A bounded first-in-first-out channel for one event loop, many senders, many receivers."""

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"a channel needs a limit of at least 1, not {limit}")
        self._limit = limit
        self._items: deque[T] = deque()
        self._getters: deque[asyncio.Future[None]] = deque()
        self._putters: deque[asyncio.Future[None]] = deque()
        self._end: StreamEndedError | None = None
        self._sent = 0
        self._refused = 0

    @property
    def ended(self) -> bool:
        """Whether no more items are accepted."""
        return self._end is not None

    def statistics(self) -> ChannelStatistics:
        """Return a snapshot of the channel's counters."""
        return ChannelStatistics(
            buffered=len(self._items),
            limit=self._limit,
            sent=self._sent,
            refused=self._refused,
            waiting_senders=len(self._putters),
        )

    def try_send(self, item: T) -> bool:
        """Put an item if there is room; return whether it was taken.

        Raises:
            StreamEndedError: the channel was closed or failed.
        """
        if self._end is not None:
            raise self._end
        if len(self._items) >= self._limit:
            self._refused += 1
            return False
        self._items.append(item)
        self._sent += 1
        _wake_one(self._getters)
        return True

    async def send(self, item: T) -> None:
        """Put an item, waiting for room.

        Raises:
            StreamEndedError: the channel was closed or failed.
        """
        while self._end is None and len(self._items) >= self._limit:
            await self._park(self._putters)
        if self._end is not None:
            raise self._end
        self._items.append(item)
        self._sent += 1
        _wake_one(self._getters)

    async def receive(self) -> T:
        """Take the oldest item, waiting for one.

        Raises:
            StreamEndedError: the channel ended and everything before the end was taken.
        """
        while not self._items:
            if self._end is not None:
                raise self._end
            await self._park(self._getters)
        item = self._items.popleft()
        _wake_one(self._putters)
        return item

    def receive_ready(self) -> list[T]:
        """Take everything that waits, without waiting."""
        items = list(self._items)
        self._items.clear()
        for _ in items:
            _wake_one(self._putters)
        return items

    def finish(self) -> None:
        """End the stream in order: what waits is still received, then it is finished."""
        self._close(StreamFinishedError("the channel is finished"))

    def close(self) -> None:
        """End the stream from our side and forget what waits. Idempotent."""
        self._items.clear()
        self._close(StreamClosedError("the channel was closed"))

    def fail(self, error: StreamEndedError) -> None:
        """End the stream with an error; what waits is still received."""
        self._close(error)

    def _close(self, end: StreamEndedError) -> None:
        if self._end is None:
            self._end = end
        for waiters in (self._getters, self._putters):
            while waiters:
                _wake_one(waiters)

    async def _park(self, waiters: deque[asyncio.Future[None]]) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                # The wake-up was ours but we go: hand it on, or an item would wait for nobody.
                _wake_one(waiters)
            elif waiter in waiters:
                waiters.remove(waiter)
            raise


def _wake_one(waiters: deque[asyncio.Future[None]]) -> None:
    while waiters:
        waiter = waiters.popleft()
        if not waiter.done():
            waiter.set_result(None)
            return
