"""The streams of one connection: a host's messages in, the engines' results out, no I/O.

Whatever a host says, only the stream (or source) that it is said about ends by it. All methods
and all callbacks of the engines run on the event loop that owns the engine host.
"""

from collections.abc import Callable
from typing import assert_never

from voxray.actors.outbox import Outbox
from voxray.actors.served_stream import ServedSource, ServedStream
from voxray.actors.stream_ends import failed, last_word
from voxray.base.errors import (
    CapacityError,
    EngineConfigError,
    EngineError,
    ProtocolError,
    StreamEndedError,
)
from voxray.observability.events import EventSink, NullSink, StreamFailed
from voxray.pipelines.engine_host import EngineHost, StreamOrigin
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

MAX_HELD_BYTES = 16 * 1024 * 1024
"""Speech of one stream that waits for credit: 6 minutes at 22 kHz."""
MAX_SOURCES = 8192
"""Sources of one connection; a host closes those it does not need any more."""
MAX_TEXT_BYTES = 1024 * 1024
"""Text of one stream that was not yet spoken: most of a day of speech."""
UNKNOWN_ENGINE = "unknown"
"""In the metrics, for a stream that never had an engine: names of a peer are no labels."""


class InferenceConnection:
    """Maps the streams of one connection to streams of an engine host."""

    def __init__(
        self,
        engines: EngineHost,
        *,
        wake: Callable[[], None],
        on_overflow: Callable[[], None],
        max_streams: int = 256,
        sink: EventSink | None = None,
    ) -> None:
        """Prepare.

        Args:
            engines: where streams are opened.
            wake: called when `take` has something to give.
            on_overflow: called once when the host leaves too much unread; the connection is
                closed.
            max_streams: streams that the host may have at once.
            sink: takes the events.
        """
        self.host = ""
        """Who is connected; empty until it has said so."""
        self._engines = engines
        self._max_streams = max_streams
        self._sink = sink or NullSink()
        self._on_overflow = on_overflow
        self._streams: dict[int, ServedStream] = {}
        self._sources: dict[int, ServedSource] = {}
        self._recent = HeardAudio()
        self._outbox = Outbox(wake)
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
            case m.Flush(stream=number, discard=discard):
                self._push(number, FlushInput(discard))
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

    def report(self, load: m.Load) -> None:
        """Tell the host what the replica has to do; of several that wait, the last."""
        self._outbox.report(load)

    def take(self) -> tuple[m.ServerMessage, ...]:
        """Return what goes out now, one batch of it at most."""
        return self._outbox.take()

    def close(self) -> None:
        """Free everything of this connection. Idempotent."""
        self._closed = True
        for stream in self._streams.values():
            stream.engine.close()
        self._streams.clear()
        self._sources.clear()
        self._outbox.clear()

    def _open(self, message: m.Open) -> None:
        number = message.stream
        if number in self._streams:
            self._fail(number, "protocol", f"stream {number} is open already")
            return
        if len(self._streams) >= self._max_streams:
            self._count(UNKNOWN_ENGINE, "limit")
            reason = f"host {self.host} has {self._max_streams} streams here, its limit"
            self._refuse(number, "limit", reason, retryable=True)
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
                origin=StreamOrigin(name=f"{self.host}/{number}", traceparent=message.traceparent),
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
        if not source.heard(len(message.pcm)):
            reason = f"source {source.number} has more audio on its way than its window allows"
            self._fail_listeners(source, "protocol", reason)
            return
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
        if isinstance(item, TextInput):
            stream.text_pushed(len(item.text.encode()))
            if stream.unspoken_bytes > MAX_TEXT_BYTES:
                reason = f"stream {number} has more than {MAX_TEXT_BYTES} bytes of text to speak"
                self._fail(number, "limit", reason)
        elif isinstance(item, FlushInput):
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
        self._outbox.forget(number)
        for stream in list(source.listeners.values()):
            if not stream.input_ended:
                self._push(stream.number, EndOfInput())

    def _malformed(self, message: m.Malformed) -> None:
        reason = str(message.error)
        if message.stream:
            # Answered also where there is no such stream: it may have been an `Open`.
            if not self._fail(message.stream, "input", reason):
                self._count(UNKNOWN_ENGINE, "input")
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
        # What the stream still holds for lack of credit goes out before its end.
        self._detach(stream)
        self._send_all(stream, stream.say(last_word(stream.number, end)))

    def _send_all(self, stream: ServedStream, messages: list[m.ServerMessage]) -> None:
        for message in messages:
            if isinstance(message, m.Finished | m.Failed):
                self._streams.pop(stream.number, None)
            self._send(message)

    def _send(self, message: m.ServerMessage) -> None:
        if self._closed:
            return
        if not self._outbox.send(message):
            self.close()
            self._on_overflow()

    def _acknowledge(self, source: ServedSource) -> None:
        if source.advance() and source.number in self._sources:
            self._outbox.acknowledge(source)

    def _overloaded(self, stream: ServedStream) -> None:
        reason = f"the engine has {stream.engine.pending} inputs of this stream to work through"
        self._fail(stream.number, "overloaded", reason, retryable=True)

    def _fail_listeners(self, source: ServedSource, code: str, reason: str) -> None:
        for number in list(source.listeners):
            self._fail(number, code, reason)

    def _fail(self, number: int, code: str, reason: str, *, retryable: bool = False) -> bool:
        """End a stream for what its host did; return False if there is none."""
        stream = self._streams.get(number)
        if stream is None:
            return False
        self._remove(number)
        self._count(stream.engine.info.name, code)
        self._refuse(number, code, reason, retryable=retryable)
        return True

    def _count(self, engine: str, code: str) -> None:
        self._sink.emit(StreamFailed(engine=engine, code=code))

    def _refuse(self, number: int, code: str, reason: str, *, retryable: bool = False) -> None:
        self._send(failed(number, code, reason, retryable=retryable))

    def _remove(self, number: int) -> None:
        stream = self._streams.pop(number, None)
        if stream is not None:
            stream.engine.close()
            self._detach(stream)

    def _detach(self, stream: ServedStream) -> None:
        source, stream.source = stream.source, None
        if source is not None:
            source.listeners.pop(stream.number, None)
            self._acknowledge(source)
