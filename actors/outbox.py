"""What one connection of a replica still has to say to its host, in order and bounded; no I/O."""

from collections import deque
from collections.abc import Callable

from voxray.actors.served_stream import ServedSource
from voxray.pipelines.wire import messages as m

MAX_WAITING = 20_000
"""Messages that wait for a host that does not read; beyond it the connection is given up."""
MAX_WAITING_BYTES = 128 * 1024 * 1024
"""Speech that waits for it: more than the credit of all streams that a host may have."""
_BATCH_BYTES = 512 * 1024
# Results in one batch; well below what gRPC takes as one message.
_MESSAGE_BYTES = 64
# A message without its audio and text, about.


class Outbox:
    """The messages of a connection on their way out. Closed for good once it overflows."""

    def __init__(self, wake: Callable[[], None]) -> None:
        """Prepare; `wake` is called when `take` has something to give."""
        self._wake = wake
        self._waiting: deque[m.ServerMessage] = deque()
        self._bytes = 0
        self._unacknowledged: dict[int, ServedSource] = {}
        self._load: m.Load | None = None

    def report(self, load: m.Load) -> None:
        """Tell the host what the replica has to do; of several that wait, the last."""
        self._load = load
        self._wake()

    def send(self, message: m.ServerMessage) -> bool:
        """Add a message; return False if there are more than the host may leave unread."""
        self._waiting.append(message)
        self._bytes += _size(message)
        self._wake()
        return len(self._waiting) <= MAX_WAITING and self._bytes <= MAX_WAITING_BYTES

    def acknowledge(self, source: ServedSource) -> None:
        """Tell the host how far a source was taken in; only the last of several is told."""
        self._unacknowledged[source.number] = source
        self._wake()

    def forget(self, source: int) -> None:
        """Acknowledge nothing more of a source."""
        self._unacknowledged.pop(source, None)

    def take(self) -> tuple[m.ServerMessage, ...]:
        """Return what goes out now, one batch of it at most."""
        batch: list[m.ServerMessage] = []
        size = 0
        while self._waiting and size < _BATCH_BYTES:
            message = self._waiting.popleft()
            size += _size(message)
            batch.append(message)
        self._bytes -= size
        if self._load is not None:
            batch.append(self._load)
            self._load = None
        if not self._waiting:
            # Last, so that a host never holds an acknowledgement without the results.
            batch.extend(
                m.Acknowledged(source.number, source.acknowledged, m.INITIAL_WINDOW_BYTES)
                for source in self._unacknowledged.values()
            )
            self._unacknowledged.clear()
        return tuple(batch)

    def clear(self) -> None:
        """Drop everything."""
        self._waiting.clear()
        self._unacknowledged.clear()
        self._load = None
        self._bytes = 0


def _size(message: m.ServerMessage) -> int:
    return _MESSAGE_BYTES + (len(message.pcm) if isinstance(message, m.Speech) else 0)
