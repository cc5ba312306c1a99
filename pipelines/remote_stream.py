"""One stream of one call, wherever it is served: its input, its results, and how it moves."""

import asyncio
from collections.abc import Callable

from voxray.base.channel import Channel
from voxray.base.errors import (
    ProtocolError,
    StreamClosedError,
    StreamEndedError,
    StreamFinishedError,
    VoxrayError,
)
from voxray.pipelines.audio_source import AudioSource
from voxray.pipelines.engines.base import (
    EndOfInput,
    EngineInfo,
    EngineKind,
    EngineOutput,
    FlushInput,
    SpeechOutput,
    TextInput,
    TranscriptOutput,
)
from voxray.pipelines.failover import LOST, end_of, error_of
from voxray.pipelines.resume import HeardResume, SpeechResume, speech_output, told_at_s
from voxray.pipelines.stream_client import Attachment, ReplicaConnection
from voxray.pipelines.wire import messages as m

RESULT_LIMIT = 4096
"""Results that wait to be received; 131 s of vad windows. A stream that nobody reads is closed."""
CREDIT_BYTES = 256 * 1024
"""Speech that a replica may send ahead of its being received: 6 s at 22 kHz."""
_TURN_S = 1.2
# What a turn detector hears at once: so much audio is told again where it goes on.
_TEXT_CHARACTERS = m.MAX_TEXT_BYTES // 4
# A character takes up to 4 bytes.


class RemoteStream:
    """An `InferenceStream` that is served by a replica, and by another one after a failure."""

    def __init__(
        self,
        key: int,
        opening: m.Open,
        source: AudioSource,
        *,
        on_failure: Callable[["RemoteStream", m.Failed], None],
        on_end: Callable[["RemoteStream"], None],
    ) -> None:
        """Prepare; the client attaches it.

        Args:
            key: tells the streams of a source apart; from 1.
            opening: engine, options and trace context; its numbers mean nothing.
            source: where its input is kept.
            on_failure: called when another replica has to go on with the stream.
            on_end: called once when the stream is over.
        """
        self._key = key
        self._opening = opening
        self._source = source
        self._on_failure = on_failure
        self._on_end = on_end
        self.replayed_s = 0.0
        """Seconds of audio that went up again with the last reopening."""
        self._info: EngineInfo | None = None
        self._attachment: Attachment | None = None
        self._answer: asyncio.Future[m.Failed | None] | None = None
        self._needed = source.log.next
        self._origin_s = 0.0
        self._input_ended = False
        self._end: VoxrayError | None = None
        self._results: Channel[EngineOutput] = Channel(RESULT_LIMIT)
        self._heard = HeardResume()
        self._spoken = SpeechResume()
        self._received_bytes = 0
        source.listen(self)

    @property
    def info(self) -> EngineInfo:
        """The engine that serves the stream."""
        if self._info is None:
            raise RuntimeError("the stream was not opened yet")
        return self._info

    @property
    def engine(self) -> str:
        """What to look for: the engine that was found, or else the name or kind asked for."""
        return self._info.name if self._info is not None else self._opening.engine

    @property
    def ended(self) -> bool:
        """Whether the stream is over."""
        return self._end is not None

    @property
    def needed(self) -> int:
        """Number of the first input that the stream may still need."""
        return self._needed

    @property
    def taken(self) -> int:
        """Number of the last input that the stream's replica has taken in."""
        return self._needed - 1 if self._attachment is None else self._attachment.lane.taken

    def push_audio(self, pcm: bytes, rate: int) -> None:
        """Hand in 16-bit little-endian mono PCM at `rate` Hz, for all streams of the source.

        Raises:
            StreamEndedError: the stream has ended.
            ProtocolError: the audio can't be understood, or the engine takes text.
        """
        self._check_input(speaks=False)
        self._source.push_audio(pcm, rate)

    def push_text(self, text: str) -> None:
        """Hand in text to speak.

        Raises:
            StreamEndedError: the stream has ended.
            ProtocolError: the engine takes audio.
        """
        self._check_input(speaks=True)
        for start in range(0, len(text), _TEXT_CHARACTERS):
            part = TextInput(text[start : start + _TEXT_CHARACTERS])
            self._source.append(self._key, part)

    def flush(self, *, discard: bool = False) -> None:
        """End the current segment: its result comes now.

        Args:
            discard: forget the segment: nothing is said of it.

        Raises:
            StreamEndedError: the stream has ended.
        """
        self._check_open()
        self._source.append(self._key, FlushInput(discard))

    def end_input(self) -> None:
        """Say that no more input comes. Idempotent."""
        if not self._input_ended and self._end is None:
            self._input_ended = True
            self._source.append(self._key, EndOfInput())

    async def receive(self) -> EngineOutput:
        """Return the next result.

        Raises:
            StreamFinishedError: everything was said.
            StreamClosedError: we closed the stream.
            PeerFailedError: no replica can go on with it.
            EngineError: the engine failed on this stream.
        """
        try:
            output = await self._results.receive()
        except StreamEndedError:
            raise self._end or StreamClosedError("the stream was closed") from None
        if isinstance(output, SpeechOutput):
            self._received(output.samples.nbytes)
        return output

    async def aclose(self) -> None:
        """Abandon the stream. Idempotent."""
        self.finish(StreamClosedError("the stream was closed"))
        self._results.close()

    def attach(self, connection: ReplicaConnection, info: EngineInfo) -> None:
        """Open the stream on a connection.

        Raises:
            PeerFailedError: the connection is lost.
        """
        first_time = self._info is None
        log = self._source.log
        self._answer = asyncio.get_running_loop().create_future()
        attachment = connection.attach(
            self,
            log,
            self._key,
            m.Open(0, info.name, 0, self._opening.options, self._opening.traceparent),
            start=None if first_time else self._needed,
            audio=info.kind is not EngineKind.TTS,
        )
        self._attachment = attachment
        start = attachment.lane.cursor
        if info.kind is EngineKind.TTS:
            self._spoken.reopened()
            connection.grant(attachment, CREDIT_BYTES)
        if first_time:
            self._needed = start
            self._origin_s = log.at_s(start)
        else:
            self.replayed_s = log.end_s - log.at_s(start)

    async def answer(self, timeout_s: float) -> m.Failed | None:
        """Wait for what the replica says to the opening; None means that it serves the stream."""
        if self._answer is None:
            raise RuntimeError("an answer was waited for without an opening")
        try:
            async with asyncio.timeout(timeout_s):
                return await self._answer
        except TimeoutError:
            self.detach()
            return m.Failed(0, LOST, f"no answer came in {timeout_s:g} s", retryable=True)
        finally:
            self._answer = None

    def detach(self) -> None:
        """Leave the replica; input is kept. Idempotent."""
        attachment, self._attachment = self._attachment, None
        if attachment is not None:
            attachment.connection.detach(attachment)

    def finish(self, end: VoxrayError) -> None:
        """End the stream; what came before is still received. Idempotent."""
        if self._end is not None:
            return
        self._end = end
        self.detach()
        self._source.leave(self)
        self._results.finish()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(None)
        self._on_end(self)

    def logged(self, size: int, *, urgent: bool) -> None:
        """Note that the input log has grown."""
        if self._attachment is not None:
            self._attachment.connection.logged(self._source.log, size, urgent=urgent)

    def opened(self, info: EngineInfo) -> None:
        """Note that the replica serves the stream."""
        self._info = self._info or info
        self._decide(None)

    def result(self, message: m.Result) -> None:
        """Take a result."""
        attachment = self._attachment
        if attachment is None:
            return
        output = message.output
        rate = self.info.sample_rate
        told_s = told_at_s(output, rate)
        log_s = attachment.lane.log_seconds(attachment.member, told_s)
        shift_s = log_s - told_s - self._origin_s
        placed = self._heard.place(output, shift_s=shift_s, sample_rate=rate)
        if placed is not None:
            self._give(placed)
        if isinstance(output, TranscriptOutput) and output.final:
            self._need_from(self._source.log.number_after(log_s))

    def speech(self, message: m.Speech) -> None:
        """Take synthesised audio."""
        pcm = self._spoken.fresh(message)
        if pcm:
            self._give(speech_output(pcm))
        self._received(len(message.pcm) - len(pcm))

    def flushed(self, count: int) -> None:
        """Note which segments are over."""
        if self._attachment is None:
            return
        number = self._attachment.member.flushed_up_to(count)
        if number is not None:
            self._spoken.marked()
            self._need_from(number + 1)

    def taken_in(self, number: int) -> None:
        """Note how much audio was taken in."""
        # What a recogniser has taken in is not yet said: it may be needed until the transcript.
        kind = self._info.kind if self._info is not None else None
        log = self._source.log
        if kind is EngineKind.VAD:
            self._need_from(number + 1)
        elif kind is EngineKind.TURN and number + 1 >= log.first:
            self._need_from(log.number_after(log.at_s(number + 1) - _TURN_S))

    def over(self, failure: m.Failed | None) -> None:
        """Note that the replica ended the stream."""
        self.detach()
        if failure is None:
            self.finish(StreamFinishedError(f"engine {self.engine} said everything"))
        elif self._answer is not None and not self._answer.done():
            self._decide(failure)
        elif failure.retryable:
            self._on_failure(self, failure)
        else:
            self.finish(end_of(error_of(failure)))

    def _decide(self, failure: m.Failed | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(failure)

    def _give(self, output: EngineOutput) -> None:
        if self._end is None and not self._results.try_send(output):
            reason = f"the stream was closed: {RESULT_LIMIT} results were not received"
            self.finish(StreamClosedError(reason))

    def _received(self, size: int) -> None:
        self._received_bytes += size
        if self._attachment is not None and self._received_bytes >= CREDIT_BYTES // 2:
            self._attachment.connection.grant(self._attachment, self._received_bytes)
            self._received_bytes = 0

    def _need_from(self, number: int) -> None:
        if number > self._needed:
            self._needed = number
            self._source.trim()

    def _check_open(self) -> None:
        if self._end is not None:
            raise (
                self._end
                if isinstance(self._end, StreamEndedError)
                else StreamClosedError(f"the stream has failed: {self._end}")
            )
        if self._input_ended:
            raise StreamClosedError("the input of this stream was ended")

    def _check_input(self, *, speaks: bool) -> None:
        self._check_open()
        if (self.info.kind is EngineKind.TTS) is not speaks:
            given, takes = ("text", "audio") if speaks else ("audio", "text")
            raise ProtocolError(f"engine {self.engine} takes {takes} and was given {given}")
