"""The audio of a VAD stream at the rate it came in: what waits, and the speech so far. Pure."""

from collections import deque

_BYTES_PER_SAMPLE = 2
CONTEXT_S = 0.48
"""Audio before it that a model is given when it takes a call over: 15 windows of Silero."""
_STEP_S = 0.16
# Five windows are a whole number of samples at every usual rate, so that windows stay where
# they would have been.
_LONGEST_WAIT_S = 30.0
# Audio that no window has come back for. More than this means that the engine never saw it.


class VADAudio:
    """Keeps the samples that windows are about, and those of the speech with its padding.

    Memory grows with the speech, not with its allowed length: most of a call is silence.
    """

    def __init__(self, rate: int, padding_s: float, max_speech_s: float) -> None:
        self.rate = rate
        self._waiting = bytearray()
        self._context = bytearray()
        self._speech = bytearray()
        self._remainder = 0
        self._pushed = 0
        self._taken = 0
        self._arrivals: deque[tuple[int, float]] = deque()
        self._last_result_s = float("-inf")
        self.configure(padding_s, max_speech_s)

    @property
    def full(self) -> bool:
        """Whether the speech has reached its allowed length: more of it is not kept."""
        return len(self._speech) >= self._limit

    def configure(self, padding_s: float, max_speech_s: float) -> None:
        """Set how much is kept."""
        self._padding = int(padding_s * self.rate) * _BYTES_PER_SAMPLE
        self._limit = int(max_speech_s * self.rate) * _BYTES_PER_SAMPLE + self._padding
        del self._speech[self._limit :]

    def push(self, pcm: bytes, now_s: float) -> None:
        """Take what goes to the engine now."""
        self._waiting += pcm
        self._pushed += len(pcm) // _BYTES_PER_SAMPLE
        self._arrivals.append((self._pushed, now_s))
        longest = int(_LONGEST_WAIT_S * self.rate) * _BYTES_PER_SAMPLE
        if (lost := len(self._waiting) - longest) > 0:
            self._skip(lost)

    def take(self, samples: int, engine_rate: int) -> bytes:
        """Return what the next window of the engine was about, and add it to the speech."""
        # The remainder is kept: else the clocks drift where the ratio of rates isn't whole.
        whole, self._remainder = divmod(samples * self.rate + self._remainder, engine_rate)
        pcm = bytes(self._waiting[: whole * _BYTES_PER_SAMPLE])
        del self._waiting[: len(pcm)]
        self._context += pcm
        del self._context[: -int(CONTEXT_S * self.rate) * _BYTES_PER_SAMPLE]
        self._taken += len(pcm) // _BYTES_PER_SAMPLE
        self._speech += pcm[: max(0, self._limit - len(self._speech))]
        return pcm

    def served_after(self, now_s: float) -> float:
        """Return how long the window that was just taken had to wait for its result, in seconds.

        Time that it spent behind earlier windows is theirs: audio that came in one piece is not
        late because there is much of it.
        """
        arrived_s = now_s
        while self._arrivals:
            upto, arrived_s = self._arrivals[0]
            if upto >= self._taken:
                break
            self._arrivals.popleft()
        waited_s = now_s - max(arrived_s, self._last_result_s)
        self._last_result_s = now_s
        return waited_s

    def due_since(self, samples: int, engine_rate: int) -> float | None:
        """Return when the audio of the next window, of so many samples, was complete; or None."""
        due = self._taken + -(-samples * self.rate // engine_rate)
        return next((arrived_s for upto, arrived_s in self._arrivals if upto >= due), None)

    def speech(self) -> bytes:
        """Return the speech so far with its padding."""
        return bytes(self._speech)

    def trim(self) -> None:
        """Forget the speech but for the padding of the next one."""
        if len(self._speech) > self._padding:
            del self._speech[: len(self._speech) - self._padding]

    def again(self) -> tuple[bytes, bytes]:
        """Return what a new stream of an engine is given first.

        That is audio that was judged already, for the model to find into it, and the audio that
        waits for its windows still.
        """
        self._remainder = 0
        step = int(_STEP_S * self.rate) * _BYTES_PER_SAMPLE
        context = len(self._context) // step * step
        return bytes(self._context[len(self._context) - context :]), bytes(self._waiting)

    def _skip(self, count: int) -> None:
        del self._waiting[:count]
        self._taken += count // _BYTES_PER_SAMPLE
