"""The last events and turns, numbered, for whoever follows them over HTTP."""

import asyncio
import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from voxray.base.timing import Clock, SystemClock
from voxray.observability.events import (
    BatchDone,
    Event,
    FramesDropped,
    LoopLag,
    StreamsChanged,
    TurnDone,
)

EVENTS_LIMIT = 4096
"""Events that are kept. An attached command line asks again every few seconds."""
TURNS_LIMIT = 4096
"""Turns that are kept beside them, so that a burst of other events does not push them out."""
PAGE_LIMIT = 500
"""Records in one page at most; its cursor leads on to the next."""
GATHER_S = 0.1
"""How long a page waits for more after the first event that came: with a page for every event, a
reader that asks again at once would cost a burst of offers more than its answers do."""

# What a process measures many times a second is for the metrics; here it would be all there is.
_NO_NEWS = (BatchDone, FramesDropped, LoopLag, StreamsChanged)


@dataclass(frozen=True, kw_only=True)
class Record:
    """An event with its number and the Unix seconds at which it was logged."""

    cursor: int
    seen_at: float
    event: Event

    def to_json(self) -> dict[str, Any]:
        """Return the event's fields, with its name as `type`, `cursor` and `seen_at`."""
        return {
            "type": type(self.event).__name__,
            "cursor": self.cursor,
            "seen_at": self.seen_at,
            **asdict(self.event),
        }


@dataclass(frozen=True, kw_only=True)
class Page:
    """Records in order, and the cursor to go on from."""

    cursor: int
    records: tuple[Record, ...]


class EventsLog:
    """Keeps the newest events. An `EventSink`, to be used on one event loop."""

    def __init__(
        self,
        *,
        events_limit: int = EVENTS_LIMIT,
        turns_limit: int = TURNS_LIMIT,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._cursor = 0
        self._events: deque[Record] = deque(maxlen=events_limit)
        self._turns: deque[Record] = deque(maxlen=turns_limit)
        self._changed: asyncio.Event | None = None  # Made for the first one who waits.
        self._closed = False

    def emit(self, event: Event) -> None:
        """Take one event."""
        if isinstance(event, _NO_NEWS):
            return
        self._cursor += 1
        record = Record(cursor=self._cursor, seen_at=self._clock.wall(), event=event)
        self._events.append(record)
        if isinstance(event, TurnDone):
            self._turns.append(record)
        self._wake()

    def events(self, after: int = 0) -> Page:
        """Return what came after a cursor, oldest first; 0 asks for everything that is kept.

        A cursor that was never given out is of an earlier life of this process: it counts as 0.
        """
        after = self._known(after)
        records = _after(self._events, after)[:PAGE_LIMIT]
        return Page(cursor=records[-1].cursor if records else self._cursor, records=tuple(records))

    async def wait(self, after: int, wait_s: float) -> Page:
        """Return what came after a cursor, waiting up to `wait_s` seconds for something."""
        if self._known(after) == self._cursor and wait_s > 0 and not self._closed:
            self._changed = changed = self._changed or asyncio.Event()
            try:
                async with asyncio.timeout(wait_s):
                    await changed.wait()
                    if not self._closed:
                        await asyncio.sleep(GATHER_S)
            except TimeoutError:
                pass
        return self.events(after)

    def turns(self, room: str = "", after: int = 0) -> Sequence[Record]:
        """Return the kept turns of a room (of all, without one), oldest first."""
        return [
            record
            for record in _after(self._turns, self._known(after))
            if not room or (isinstance(record.event, TurnDone) and record.event.room == room)
        ]

    def close(self) -> None:
        """Let everybody go who waits; nobody waits from now on. Idempotent."""
        self._closed = True
        self._wake()

    def _known(self, after: int) -> int:
        return after if 0 <= after <= self._cursor else 0

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None


def _after(records: deque[Record], cursor: int) -> list[Record]:
    # From the newest on: a reader that keeps up costs the same however much is kept.
    newest_first = itertools.takewhile(lambda each: each.cursor > cursor, reversed(records))
    return [*newest_first][::-1]
