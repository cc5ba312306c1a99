"""The streams of one connection: a host's messages in, the engines' results out, no I/O.

Whatever a host says, only the stream (or source) that it is said about ends by it. All methods
and all callbacks of the engines run on the event loop that owns the engine host.
"""

from collections import deque
from collections.abc import Callable
from typing import assert_never

from voxray.actors.served_stream import ServedSource, ServedStream
from voxray.base.errors import (
    CapacityError,
    EngineConfigError,
    EngineError,
    ProtocolError,
    StreamEndedError,
    StreamFinishedError,
)
from voxray.pipelines.engine_host import EngineHost
from voxray.pipelines.engines.base import (
    EndOfInput,
    EngineInput,
    EngineOutput,
    FlushInput,
    SpeechOutput,
    TextInput,
)
from voxray.pipelines.recent_audio import HeardAudio
from voxray.pipelines.wire import messages as m

MAX_WAITING = 20_000
"""Messages that wait for a host that does not read; beyond it the connection is given up."""
MAX_HELD_BYTES = 16 * 1024 * 1024
"""Speech of one stream that waits for credit: 6 minutes at 22 kHz."""
MAX_SOURCES = 8192
"""Sources of one connection; a host closes those it does not need any more."""
_BATCH_BYTES = 512 * 1024
# Results in one batch; well below what gRPC takes as one message.
_MESSAGE_BYTES = 64
# A message without its audio and text, about.
_REASON_CHARACTERS = 500


class InferenceConnection:
    """Maps the streams of one connection to streams of an engine host."""

    def __init__(
        self,
        engines: EngineHost,
        *,
        wake: Callable[[], None],
        on_overflow: Callable[[], None],
    ) -> None:
        """Prepare.

        Args:
            engines: where streams are opened.
            wake: called when `take` has something to give.
            on_overflow: called once when `MAX_WAITING` messages wait; the connection is closed.
        """
        self._engines = engines
        self._wake = wake
        self._on_overflow = on_overflow
        self._streams: dict[int, ServedStream] = {}
        self._sources: dict[int, ServedSource] = {}
        self._out: deque[m.ServerMessage] = deque()
        self._unacknowledged: dict[int, ServedSource] = {}
        self._recent = HeardAudio()
        self._closed = False

    @property
    def streams(self) -> int:
        """Streams that are open."""
        return len(self._streams)

    def handle(self, message: m.ClientMessage | m.Malformed) -> None:
        """Do what the host asks. Messages for streams that are gone are passed over.

        Raises:
            ProtocolError: the whole connection makes no sense.
        """
        if self._closed:
            return
        match message:
            case m.Audio() | m.AudioAgain():
                self._audio(message)
            case m.Open():
                self._open(message)
            case m.Text(stream=number, text=text):
                self._push(number, TextInput(text))
            case m.Flush(stream=number):
                self._push(number, FlushInput())
            case m.EndInput(stream=number):
                self._push(number, EndOfInput())
            case m.Close(stream=number):
                self._remove(number)
            case m.CloseSource(source=number):
                self._close_source(number)
            case m.Credit(stream=number, bytes=count):
                if (stream := self._streams.get(number)) is not None:
                    self._send_all(stream, stream.add_credit(count))
            case m.Malformed():
                self._malformed(message)
            case _:
                assert_never(message)

    def take(self) -> tuple[m.ServerMessage, ...]:
        """Return what goes out now, one batch of it at most."""
        batch: list[m.ServerMessage] = []
        size = 0
        while self._out and size < _BATCH_BYTES:
            message = self._out.popleft()
            size += _MESSAGE_BYTES + (len(message.pcm) if isinstance(message, m.Speech) else 0)
            batch.append(message)
        if not self._out:
            # Last, so that a host never holds an acknowledgement without the results.
            batch.extend(
                m.Acknowledged(source.number, source.acknowledged, m.INITIAL_WINDOW_BYTES)
                for source in self._unacknowledged.values()
            )
            self._unacknowledged.clear()
        return tuple(batch)

    def close(self) -> None:
        """Free everything of this connection. Idempotent."""
        self._closed = True
        for stream in self._streams.values():
            stream.engine.close()
        self._streams.clear()
        self._sources.clear()
        self._unacknowledged.clear()
        self._out.clear()

    def _open(self, message: m.Open) -> None:
        number = message.stream
        if number in self._streams:
            self._fail(number, "protocol", f"stream {number} is open already")
            return
        source = self._source(message.source) if message.source else None
        stream: ServedStream | None = None

        # The engine host never calls back from within `open`: by then the stream is known.
        def known() -> ServedStream | None:
            return stream if stream is self._streams.get(number) else None

        try:
            engine = self._engines.open(
                message.engine,
                message.options,
                on_output=lambda output: self._output(known(), output),
                on_end=lambda end: self._ended(known(), end),
                on_progress=lambda consumed: self._progress(known(), consumed),
            )
        except CapacityError as error:
            self._refuse(number, "limit", str(error), retryable=True)
            return
        except EngineConfigError as error:
            self._refuse(number, "config", str(error))
            return
        except EngineError as error:
            self._refuse(number, "engine", str(error))
            return
        stream = ServedStream(number, engine, source)
        if source is not None:
            source.listeners[number] = stream
        self._streams[number] = stream
        self._send(m.Opened(number, engine.info))

    def _source(self, number: int) -> ServedSource:
        source = self._sources.get(number)
        if source is None:
            if len(self._sources) >= MAX_SOURCES:
                raise ProtocolError(f"the host has {MAX_SOURCES} sources and opened another")
            source = self._sources[number] = ServedSource(number)
        return source

    def _audio(self, given: m.Audio | m.AudioAgain) -> None:
        source = self._sources.get(given.source)
        try:
            message = self._recent.audio(given)
        except ProtocolError as error:
            if source is not None:
                self._fail_listeners(source, "protocol", str(error))
            return
        if source is None:  # Closed a moment ago.
            return
        if message.sequence != source.sequence + 1:
            self._fail_listeners(
                source,
                "protocol",
                f"audio {message.sequence} of source {source.number} came after"
                f" {source.sequence}: numbers follow each other",
            )
            return
        source.sequence = message.sequence
        for stream in list(source.listeners.values()):
            if not stream.input_ended:
                self._push_audio(stream, message)
        self._acknowledge(source)

    def _push_audio(self, stream: ServedStream, message: m.Audio) -> None:
        try:
            if stream.engine.push_pcm(message.pcm, message.rate):
                stream.audio_pushed(message.sequence)
            else:
                self._overloaded(stream)
        except ProtocolError as error:
            self._fail(stream.number, "input", str(error))
        except (StreamEndedError, EngineError):
            # It has just ended: `on_end` is on its way.
            stream.input_ended = True

    def _push(self, number: int, item: EngineInput) -> None:
        stream = self._streams.get(number)
        if stream is None:
            return
        if stream.input_ended:
            self._fail(number, "input", f"stream {number} got input after its end of input")
            return
        try:
            if not stream.engine.push(item):
                self._overloaded(stream)
                return
        except ProtocolError as error:
            self._fail(number, "input", str(error))
            return
        except (StreamEndedError, EngineError):
            stream.input_ended = True  # `on_end` is on its way.
            return
        if isinstance(item, FlushInput):
            stream.flush_pushed()
            # Where nothing was to flush no progress will come of it.
            self._progress(stream, stream.engine.consumed)
        elif isinstance(item, EndOfInput):
            stream.input_ended = True
            if stream.source is not None:
                self._acknowledge(stream.source)

    def _close_source(self, number: int) -> None:
        source = self._sources.pop(number, None)
        if source is None:
            return
        self._unacknowledged.pop(number, None)
        for stream in list(source.listeners.values()):
            if not stream.input_ended:
                self._push(stream.number, EndOfInput())

    def _malformed(self, message: m.Malformed) -> None:
        reason = str(message.error)
        if message.stream:
            # Answered also where there is no such stream: it may have been an `Open`.
            self._remove(message.stream)
            self._refuse(message.stream, "input", reason)
        elif (source := self._sources.get(message.source)) is not None:
            self._fail_listeners(source, "input", reason)

    def _output(self, stream: ServedStream | None, output: EngineOutput) -> None:
        if stream is None:
            return
        if isinstance(output, SpeechOutput):
            self._send_all(stream, stream.speak(output.samples))
        else:
            self._send_all(stream, stream.say(m.Result(stream.number, output)))
        if stream.held_bytes > MAX_HELD_BYTES:
            self._fail(stream.number, "overloaded", "nobody takes the speech of this stream")

    def _progress(self, stream: ServedStream | None, consumed: int) -> None:
        if stream is None:
            return
        self._send_all(stream, stream.progress(consumed))
        if stream.source is not None:
            self._acknowledge(stream.source)

    def _ended(self, stream: ServedStream | None, end: StreamEndedError | EngineError) -> None:
        if stream is None:
            return
        number = stream.number
        match end:
            case StreamFinishedError():
                last: m.ServerMessage = m.Finished(number)
            case EngineConfigError():
                last = _failed(number, "config", str(end))
            case EngineError():
                last = _failed(number, "engine", str(end))
            case _:
                last = _failed(number, "overloaded", "the replica is closing", retryable=True)
        # What the stream still holds for lack of credit goes out before its end.
        self._detach(stream)
        self._send_all(stream, stream.say(last))

    def _send_all(self, stream: ServedStream, messages: list[m.ServerMessage]) -> None:
        for message in messages:
            if isinstance(message, m.Finished | m.Failed):
                self._streams.pop(stream.number, None)
            self._send(message)

    def _send(self, message: m.ServerMessage) -> None:
        if self._closed:
            return
        self._out.append(message)
        if len(self._out) > MAX_WAITING:
            self.close()
            self._on_overflow()
        self._wake()

    def _acknowledge(self, source: ServedSource) -> None:
        if source.advance() and source.number in self._sources:
            self._unacknowledged[source.number] = source
            self._wake()

    def _overloaded(self, stream: ServedStream) -> None:
        reason = f"the engine has {stream.engine.pending} inputs of this stream to work through"
        self._fail(stream.number, "overloaded", reason, retryable=True)

    def _fail_listeners(self, source: ServedSource, code: str, reason: str) -> None:
        for number in list(source.listeners):
            self._fail(number, code, reason)

    def _fail(self, number: int, code: str, reason: str, *, retryable: bool = False) -> None:
        if self._remove(number):
            self._refuse(number, code, reason, retryable=retryable)

    def _refuse(self, number: int, code: str, reason: str, *, retryable: bool = False) -> None:
        self._send(_failed(number, code, reason, retryable=retryable))

    def _remove(self, number: int) -> bool:
        stream = self._streams.pop(number, None)
        if stream is None:
            return False
        stream.engine.close()
        self._detach(stream)
        return True

    def _detach(self, stream: ServedStream) -> None:
        source, stream.source = stream.source, None
        if source is not None:
            source.listeners.pop(stream.number, None)
            self._acknowledge(source)


def _failed(number: int, code: str, reason: str, *, retryable: bool = False) -> m.Failed:
    return m.Failed(number, code, reason[:_REASON_CHARACTERS], retryable)
