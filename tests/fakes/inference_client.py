"""An inference client without engines: the test says what comes back, and when."""

import asyncio
from collections.abc import Mapping
from typing import Any

from voxray.base.channel import Channel
from voxray.base.errors import StreamClosedError, StreamEndedError, StreamFinishedError
from voxray.pipelines.engines.base import EngineInfo, EngineKind, EngineOutput
from voxray.pipelines.streams import LIVE, StreamTerms


def engine_info(kind: str, sample_rate: int = 16_000) -> EngineInfo:
    return EngineInfo(
        name=f"fake-{kind}",
        kind=EngineKind(kind),
        model=f"{kind}-model",
        provider="fakes",
        sample_rate=sample_rate,
    )


class FakeStream:
    """Records what is pushed; `said` is told of each input."""

    def __init__(
        self,
        info: EngineInfo,
        options: Mapping[str, Any],
        traceparent: str,
        terms: StreamTerms = LIVE,
    ) -> None:
        self.terms = terms
        self.info = info
        self.options = dict(options)
        self.traceparent = traceparent
        self.inputs: list[Any] = []
        self.closed = False
        self._results: Channel[EngineOutput] = Channel(100_000)
        self._error: Exception | None = None
        self._input_came = asyncio.Event()

    # What the plugin calls.

    def push_audio(self, pcm: bytes, rate: int) -> None:
        self._take((pcm, rate))

    def push_text(self, text: str) -> None:
        self._take(text)

    def flush(self, *, discard: bool = False) -> None:
        self._take("<discard>" if discard else "<flush>")

    def end_input(self) -> None:
        self._take("<end>")

    async def receive(self) -> EngineOutput:
        try:
            return await self._results.receive()
        except StreamFinishedError:
            if self._error is not None:
                raise self._error from None
            raise

    async def aclose(self) -> None:
        self.closed = True
        self._results.close()

    # What the test calls.

    def emit(self, *outputs: EngineOutput) -> None:
        for output in outputs:
            assert self._results.try_send(output)

    def finish(self) -> None:
        self._results.finish()

    def fail(self, error: Exception) -> None:
        if isinstance(error, StreamEndedError):
            self._results.fail(error)
        else:
            self._error = error
            self._results.finish()

    async def until(self, count: int) -> list[Any]:
        """Wait until that many inputs came, and return them."""
        while len(self.inputs) < count:
            self._input_came.clear()
            await self._input_came.wait()
        return self.inputs

    def _take(self, item: Any) -> None:
        if self._results.ended:
            raise StreamClosedError("the stream has ended")
        self.inputs.append(item)
        self._input_came.set()


class FakeInferenceClient:
    """Hands out fake streams; raises the `refusals` first, one an open, or always `refuses`."""

    def __init__(self, sample_rate: int = 16_000, refuses: Exception | None = None) -> None:
        self.refuses = refuses
        self.sample_rate = sample_rate
        self.refusals: list[Exception] = []
        self.streams: list[FakeStream] = []
        self.opened: list[str] = []
        self._stream_came = asyncio.Event()

    async def open(
        self,
        engine: str,
        options: Mapping[str, Any],
        *,
        traceparent: str = "",
        terms: StreamTerms = LIVE,
    ) -> FakeStream:
        self.opened.append(engine)
        if self.refusals:
            raise self.refusals.pop(0)
        if self.refuses is not None:
            raise self.refuses
        kind = engine if engine in ("vad", "stt", "tts", "turn") else "stt"
        stream = FakeStream(engine_info(kind, self.sample_rate), options, traceparent, terms)
        self.streams.append(stream)
        self._stream_came.set()
        return stream

    async def aclose(self) -> None:
        for stream in self.streams:
            await stream.aclose()

    async def stream(self, index: int = 0) -> FakeStream:
        """Wait for a stream to be opened."""
        while len(self.streams) <= index:
            self._stream_came.clear()
            await self._stream_came.wait()
        return self.streams[index]
