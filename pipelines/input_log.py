"""What was put into a source or a speaking stream and may be needed again, in order.

One log is the only place where input waits: the way up a connection is a cursor on it, and a
stream that moves to another replica is a new cursor at the first entry that is still needed.
"""

from collections import deque
from dataclasses import dataclass
from typing import TypeAlias

from voxray.pipelines.audio import BYTES_PER_SAMPLE, MAX_RATE
from voxray.pipelines.engines.base import EndOfInput, FlushInput, TextInput

RETAINED_S = 30.0
"""Audio that a log holds at most: a long sentence, with the silence around it."""
RETAINED_BYTES = 8 * 1024 * 1024
"""Bytes of audio and text that a log holds at most: 30 s at 128 kHz."""
RETAINED_ENTRIES = 20_000
"""Entries that a log holds at most."""

ALL_STREAMS = 0


@dataclass(frozen=True, slots=True)
class Frame:
    """16-bit little-endian mono PCM at `rate` Hz."""

    pcm: bytes
    rate: int

    @property
    def seconds(self) -> float:
        """How long the frame plays."""
        return len(self.pcm) / BYTES_PER_SAMPLE / self.rate


LogItem: TypeAlias = Frame | TextInput | FlushInput | EndOfInput


@dataclass(frozen=True, slots=True)
class Entry:
    """One input.

    Attributes:
        number: its place in the log, from 1.
        at_s: seconds of audio before it, since the log began.
        key: the stream it is for; `ALL_STREAMS` for audio.
        item: what was put in.
    """

    number: int
    at_s: float
    key: int
    item: LogItem

    @property
    def end_s(self) -> float:
        """Seconds of audio up to its end, since the log began."""
        return self.at_s + (self.item.seconds if isinstance(self.item, Frame) else 0.0)


class InputLog:
    """A bounded log of inputs; what exceeds the bounds is dropped, oldest first."""

    def __init__(
        self,
        *,
        retained_s: float = RETAINED_S,
        retained_bytes: int = RETAINED_BYTES,
        retained_entries: int = RETAINED_ENTRIES,
    ) -> None:
        self._retained_s = retained_s
        self._retained_bytes = retained_bytes
        self._retained_entries = retained_entries
        self._entries: deque[Entry] = deque()
        self._first = 1
        self._end_s = 0.0
        self._bytes = 0

    @property
    def first(self) -> int:
        """Number of the oldest entry that is there, or would be."""
        return self._first

    @property
    def next(self) -> int:
        """Number of the next entry."""
        return self._first + len(self._entries)

    @property
    def end_s(self) -> float:
        """Seconds of audio since the log began, dropped audio included."""
        return self._end_s

    def append(self, key: int, item: LogItem) -> tuple[Entry, ...]:
        """Add an input; return what had to be dropped for it."""
        entry = Entry(self.next, self._end_s, key, item)
        self._entries.append(entry)
        self._end_s = entry.end_s
        self._bytes += _size(item)
        dropped = []
        while len(self._entries) > 1 and self._over():
            dropped.append(self._drop())
        return tuple(dropped)

    def entry(self, number: int) -> Entry:
        """Return an entry that is there.

        Raises:
            IndexError: it is not.
        """
        if number < self._first:
            raise IndexError(f"entry {number} was dropped; the first is {self._first}")
        return self._entries[number - self._first]

    def at_s(self, number: int) -> float:
        """Return the seconds of audio before an entry that is there or comes next."""
        return self._end_s if number >= self.next else self.entry(number).at_s

    def forget(self, before: int) -> None:
        """Drop the entries below a number: nobody will need them again."""
        while self._entries and self._first < before:
            self._drop()

    def number_after(self, end_s: float) -> int:
        """Return the number of the first entry that is needed when audio is done up to `end_s`.

        Audio is passed over; flushes and the end of input never are.
        """
        for entry in self._entries:
            if entry.end_s > end_s or not isinstance(entry.item, Frame):
                return entry.number
        return self.next

    def _over(self) -> bool:
        return (
            self._bytes > self._retained_bytes
            or len(self._entries) > self._retained_entries
            or self._end_s - self._entries[0].end_s > self._retained_s
        )

    def _drop(self) -> Entry:
        entry = self._entries.popleft()
        self._first += 1
        self._bytes -= _size(entry.item)
        return entry


def recording_log(seconds: float) -> InputLog:
    """Return a log that holds a whole recording, and never less than that of a live call."""
    return InputLog(
        retained_s=max(RETAINED_S, seconds + 1.0),
        # The highest rate there is, and frames of 10 ms: a recording drops nothing.
        retained_bytes=max(RETAINED_BYTES, int(seconds * MAX_RATE * BYTES_PER_SAMPLE) + 1),
        retained_entries=max(RETAINED_ENTRIES, int(seconds * 1000)),
    )


def _size(item: LogItem) -> int:
    match item:
        case Frame(pcm=pcm):
            return len(pcm)
        case TextInput(text=text):
            return len(text)
        case _:
            return 0
