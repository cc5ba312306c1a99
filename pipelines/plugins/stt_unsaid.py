"""What was said to a recogniser and not yet transcribed: a new stream begins with it. Pure."""

from collections import deque
from collections.abc import Iterator

from voxray.pipelines.engines.base import FlushInput
from voxray.pipelines.input_log import RETAINED_S, Frame


class Unsaid:
    """The input of a stream since its last final transcript; the oldest goes beyond 30 s.

    The client moves a stream that lost its replica by itself. This is for when none is found
    in time, and livekit-agents opens another stream in its place.
    """

    def __init__(self) -> None:
        self._items: deque[tuple[float, Frame | FlushInput]] = deque()
        self._end_s = 0.0
        self.seconds = 0.0
        """Seconds of audio that are kept."""

    def __bool__(self) -> bool:
        """Whether anything is kept."""
        return bool(self._items)

    def __iter__(self) -> Iterator[Frame | FlushInput]:
        return iter([item for _, item in self._items])

    def push(self, frame: Frame) -> None:
        """Keep audio that goes to the engine now."""
        self._end_s += frame.seconds
        self.seconds += frame.seconds
        self._items.append((self._end_s, frame))
        while self.seconds > RETAINED_S:
            self._drop()

    def flush(self) -> None:
        """Keep a flush."""
        self._items.append((self._end_s, FlushInput()))

    def said(self, end_s: float) -> None:
        """Forget what a final transcript tells, which ends `end_s` after its stream opened."""
        while self._items and self._items[0][0] <= end_s:
            self._drop()
        # A flush asks for a final transcript, and here is one.
        self._items = deque(entry for entry in self._items if isinstance(entry[1], Frame))

    def clear(self) -> None:
        """Begin anew: the stream has told everything, or what is kept is better not said again."""
        self._items.clear()
        self._end_s = self.seconds = 0.0

    def begin_again(self) -> float:
        """Count from the beginning of what is kept, as the next stream will; return its seconds."""
        items = [item for _, item in self._items]
        self.clear()
        for item in items:
            if isinstance(item, Frame):
                self.push(item)
            else:
                self.flush()
        return self.seconds

    def _drop(self) -> None:
        _, item = self._items.popleft()
        if isinstance(item, Frame):
            self.seconds -= item.seconds
        if not self._items:
            self.seconds = 0.0
