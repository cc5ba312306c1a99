"""Text to speech by the online voices of Microsoft Edge, through the package `edge-tts`.

The service computes, this engine waits: every text has a connection of its own on an event loop of
the engine's, so a slow answer keeps no other call waiting. Its MP3 is decoded as it comes.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp

from voxray.base.errors import EngineConfigError, EngineError
from voxray.base.lifecycle import LoopThread
from voxray.pipelines.engines.base import (
    EngineInfo,
    EngineKind,
    EngineSession,
    Samples,
    SpeechOutput,
    TextInput,
    WorkItem,
    WorkResult,
)
from voxray.pipelines.engines.mp3 import Mp3Decoder
from voxray.pipelines.engines.options import read_options

if TYPE_CHECKING:
    import edge_tts

__all__ = ["SAMPLE_RATE", "EdgeEngine", "EdgeOptions"]

SAMPLE_RATE = 24_000
"""Hz; what `edge-tts` asks the service for."""
_INSTALL = "pip install 'voxray[edge]'"


@dataclass(frozen=True, kw_only=True)
class EdgeOptions:
    """How one stream speaks.

    Attributes:
        voice: name of a voice of the service; `edge-tts --list-voices` lists them.
        rate_percent: faster or slower than the voice's own, -90 to 200.
        volume_percent: louder or softer, -100 to 100.
        pitch_hz: higher or lower, -200 to 200.
    """

    voice: str = "en-US-EmmaMultilingualNeural"
    rate_percent: int = 0
    volume_percent: int = 0
    pitch_hz: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        ranges = {
            "rate_percent": (-90, 200),
            "volume_percent": (-100, 100),
            "pitch_hz": (-200, 200),
        }
        for name, (low, high) in ranges.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must be {low} to {high}, not {getattr(self, name)}")


class _Session:
    def __init__(self, options: EdgeOptions) -> None:
        self.options = options

    def close(self) -> None:
        """Hold nothing, free nothing: the executor cancels what is under way."""


class EdgeEngine:
    """Speaks by a service that others run: only with a network, and at their pleasure."""

    def __init__(
        self,
        *,
        connect_timeout_s: float = 5.0,
        receive_timeout_s: float = 10.0,
        proxy: str | None = None,
    ) -> None:
        """Prepare; nothing is dialled before there is something to say.

        Args:
            connect_timeout_s: longest wait for a connection.
            receive_timeout_s: longest wait for the next piece of audio.
            proxy: address of an HTTP proxy; None goes by the environment.

        Raises:
            EngineConfigError: a setting is out of range.
        """
        given: Mapping[str, Any] = {"connect": connect_timeout_s, "receive": receive_timeout_s}
        for name, value in given.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
                raise EngineConfigError(f"edge: {name}_timeout_s must be above 0, not {value!r}")
        self._connect_timeout_s = float(connect_timeout_s)
        self._receive_timeout_s = float(receive_timeout_s)
        self._proxy = proxy
        self._loop: LoopThread | None = None
        # Connections that are being closed, while nobody waits for them.
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def info(self) -> EngineInfo:
        """What the engine is."""
        return EngineInfo(
            name="edge",
            kind=EngineKind.TTS,
            model="edge-tts",
            provider="microsoft-edge",
            sample_rate=SAMPLE_RATE,
            inputs_per_turn=1,
        )

    def load(self) -> None:
        """Start the loop and try the decoder; the service itself is not asked.

        A replica must start, and its other engines serve, also while the service is away.

        Raises:
            EngineConfigError: a package is missing, or the decoder.
        """
        try:
            import edge_tts  # noqa: F401, PLC0415 - optional
        except ImportError as error:
            raise EngineConfigError(f"edge: edge-tts is not installed: {_INSTALL}") from error
        Mp3Decoder(SAMPLE_RATE).flush()
        if self._loop is None:
            self._loop = LoopThread("engine-edge-io")

    def open(self, options: Mapping[str, Any]) -> EngineSession:
        """Start a stream; the options are the fields of `EdgeOptions`.

        Raises:
            EngineConfigError: an option is unknown or out of range, or no name of a voice.
        """
        given = read_options("edge", EdgeOptions, options)
        try:
            self._request("hello", given)
        except ValueError as error:
            raise EngineConfigError(
                f"edge: {given.voice!r} is no name of a voice; one is en-US-EmmaMultilingualNeural"
            ) from error
        return _Session(given)

    def run_batch(self, items: Sequence[WorkItem]) -> Sequence[WorkResult]:
        """Ask the service for each text; what is returned is done when it has answered."""
        return [self._start(item) for item in items]

    def close(self) -> None:
        """End the loop, and what is under way on it. Idempotent."""
        if self._loop is not None:
            self._loop.stop()
            self._loop = None

    def _start(self, item: WorkItem) -> WorkResult:
        texts = [given.text for given in item.inputs if isinstance(given, TextInput)]
        # The service takes a text without a word for a fault.
        texts = [text for text in texts if any(letter.isalnum() for letter in text)]
        if not texts or item.cancelled():
            return None
        assert self._loop is not None, "asked before it was loaded"
        return self._loop.submit(self._say(item, texts))

    async def _say(self, item: WorkItem, texts: Sequence[str]) -> None:
        session = item.session
        assert isinstance(session, _Session), "a session of another engine"
        for text in texts:
            try:
                await self._say_one(item, self._request(text, session.options))
            except EngineError:
                raise
            except TimeoutError as error:
                raise EngineError(
                    "edge: the service did not answer in time: "
                    f"{self._connect_timeout_s:g} s to connect, {self._receive_timeout_s:g} s for "
                    "the next piece of audio"
                ) from error
            except (aiohttp.ClientConnectionError, OSError) as error:
                raise EngineError(
                    f"edge: the service can't be reached ({type(error).__name__}): is this machine "
                    "offline? It needs an HTTPS connection to speech.platform.bing.com"
                ) from error
            except aiohttp.ClientResponseError as error:
                raise EngineError(f"edge: the service refused with {error.status}") from error
            except Exception as error:
                # The package has its own classes for an answer that it does not understand.
                raise EngineError(
                    f"edge: the service gave no audio for the voice {session.options.voice} "
                    f"({type(error).__name__})"
                ) from error

    async def _say_one(self, item: WorkItem, request: "edge_tts.Communicate") -> None:
        decoder = Mp3Decoder(SAMPLE_RATE)
        wait_s = self._connect_timeout_s + self._receive_timeout_s
        stream = request.stream()
        pull = asyncio.create_task(_next(stream))
        try:
            while True:
                # Not `asyncio.timeout`: that waits until a hung connection is closed in order.
                done, _ = await asyncio.wait((pull,), timeout=wait_s)
                if not done:
                    raise TimeoutError
                chunk = pull.result()
                if chunk is None:
                    break
                wait_s = self._receive_timeout_s
                if chunk["type"] == "audio":
                    _emit(item, decoder.push(chunk["data"]))
                pull = asyncio.create_task(_next(stream))
        finally:
            closing = asyncio.create_task(_hang_up(pull, stream))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        _emit(item, decoder.flush())

    def _request(self, text: str, options: EdgeOptions) -> "edge_tts.Communicate":
        import edge_tts  # noqa: PLC0415 - optional

        return edge_tts.Communicate(
            text,
            options.voice,
            rate=f"{options.rate_percent:+d}%",
            volume=f"{options.volume_percent:+d}%",
            pitch=f"{options.pitch_hz:+d}Hz",
            proxy=self._proxy,
            connect_timeout=max(1, round(self._connect_timeout_s)),
            receive_timeout=max(1, round(self._receive_timeout_s)),
        )


def _emit(item: WorkItem, samples: Samples) -> None:
    if len(samples):
        item.emit(SpeechOutput(samples))


async def _next(stream: AsyncGenerator[Any, None]) -> Any:
    return await anext(stream, None)


async def _hang_up(pull: "asyncio.Task[Any]", stream: AsyncGenerator[Any, None]) -> None:
    pull.cancel()
    await asyncio.gather(pull, return_exceptions=True)
    await stream.aclose()
