"""The seam between the plugins and inference, wherever it runs.

A client is either remote (frames multiplexed to replicas over gRPC) or embedded (the engines in
this very process, for a program that runs outside voxray). Plugins see only these protocols.
Everything here is for one event loop: calls and results stay on the loop that opened the stream.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from voxray.pipelines.engines.base import EngineInfo, EngineOutput


@dataclass(frozen=True, kw_only=True)
class StreamTerms:
    """What a stream wants of its client.

    Attributes:
        wait_s: seconds to look for a replica; None takes the client's own patience.
        moves: whether the client goes on with it on another replica when one is lost; otherwise
            it ends with `PeerFailedError` at once, and its reader knows what to do.
        recording_s: seconds of a recording that is pushed in one go: all of it is kept until it
            was worked through, also where a live call's audio would be dropped by then.
    """

    wait_s: float | None = None
    moves: bool = True
    recording_s: float = 0.0


LIVE = StreamTerms()
"""The terms of a live call."""


class InferenceStream(Protocol):
    """One engine listening or speaking for one call. Input never blocks and never waits."""

    @property
    def info(self) -> EngineInfo:
        """The engine that serves the stream."""
        ...

    def push_audio(self, pcm: bytes, rate: int) -> None:
        """Hand in 16-bit little-endian mono PCM at `rate` Hz.

        What a full buffer can't take is dropped, oldest first, and counted (`FramesDropped`).

        Raises:
            StreamEndedError: the stream has ended.
        """
        ...

    def push_text(self, text: str) -> None:
        """Hand in text to speak.

        Raises:
            StreamEndedError: the stream has ended.
        """
        ...

    def flush(self, *, discard: bool = False) -> None:
        """End the current segment: its result comes now, or with `discard` none."""
        ...

    def end_input(self) -> None:
        """Say that no more input comes; what is left is still received."""
        ...

    async def receive(self) -> EngineOutput:
        """Return the next result.

        Raises:
            StreamFinishedError: everything was said.
            StreamClosedError: we closed the stream.
            PeerFailedError: no replica can go on with it.
            EngineError: the engine failed on this stream.
        """
        ...

    async def aclose(self) -> None:
        """Abandon the stream. Idempotent."""
        ...


class InferenceClient(Protocol):
    """Opens streams to engines, for all calls of a process."""

    async def open(
        self,
        engine: str,
        options: Mapping[str, Any],
        *,
        traceparent: str = "",
        terms: StreamTerms = LIVE,
    ) -> InferenceStream:
        """Open a stream to an engine, named by its name or its kind (`vad`, `stt`, `tts`).

        Raises:
            EngineConfigError: no such engine, or it can't do what the options ask.
            CapacityError: every replica is at its limit, or none is known within the deadline.
        """
        ...

    async def aclose(self) -> None:
        """End all streams and connections. Idempotent."""
        ...
