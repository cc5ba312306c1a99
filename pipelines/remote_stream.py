"""One stream of one call, wherever it is served: its input, its results, and how it moves."""

import asyncio
from collections.abc import Callable

from voxray.base.channel import Channel
from voxray.base.errors import (
    StreamClosedError,
    StreamEndedError,
    StreamFinishedError,
    VoxrayError,
)
from voxray.base.ids import ReplicaId
from voxray.pipelines.audio_source import AudioSource
from voxray.pipelines.engines.base import (
    EngineInfo,
    EngineKind,
    EngineOutput,
    SpeechOutput,
    TranscriptOutput,
)
from voxray.pipelines.failover import LOST, STALE, end_of, error_of
from voxray.pipelines.resume import HeardResume, SpeechResume, speech_output, told_at_s
from voxray.pipelines.stream_client import Attachment, ReplicaConnection
from voxray.pipelines.stream_ear import Ear
from voxray.pipelines.stream_input import StreamInput
from voxray.pipelines.wire import messages as m

RESULT_LIMIT = 4096
"""Results that wait to be received; 131 s of vad windows. A stream that nobody reads is closed."""
CREDIT_BYTES = 256 * 1024
"""Speech that a replica may send ahead of its being received: 6 s at 22 kHz."""
_TURN_S = 1.2
# What a turn detector hears at once: so much audio is told again where it goes on.
_STALE = m.Failed(0, STALE, "the stream has moved on meanwhile", retryable=True)


class RemoteStream(StreamInput):
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
        super().__init__(key, source)
        self._opening = opening
        self._on_failure = on_failure
        self._on_end = on_end
        self.replayed_s = 0.0
        """Seconds of audio that went up again with the last reopening."""
        self.current: Ear | None = None
        """Hears the replica that serves the stream; None while none does."""
        self.coming: Ear | None = None
        """Hears the replica that was asked to serve it and has not answered yet."""
        self.call = ""
        """The call that it is for; empty for none."""
        self.heading_for: ReplicaId | None = None
        """The replica that it is about to ask."""
        self._answer: asyncio.Future[m.Failed | None] | None = None
        self._needed = source.log.next
        self._origin_s = 0.0
        self._results: Channel[EngineOutput] = Channel(RESULT_LIMIT)
        self._heard = HeardResume()
        self._spoken = SpeechResume()
        self._received_bytes = 0
        source.listen(self)

    @property
    def engine(self) -> str:
        """What to look for: the engine that was found, or else the name or kind asked for."""
        return self._info.name if self._info is not None else self._opening.engine

    @property
    def needed(self) -> int:
        """Number of the first input that the stream may still need."""
        return self._needed

    @property
    def taken(self) -> int:
        """Number of the last input that the stream's replica has taken in."""
        attachment = self._attachment
        return self._needed - 1 if attachment is None else attachment.lane.taken

    @property
    def served_by(self) -> ReplicaId | None:
        """The replica that serves the stream, or will; None while none does."""
        attachment = self._attachment
        if self.heading_for is not None or attachment is None:
            return self.heading_for
        return attachment.connection.replica.replica_id

    def on(self, connection: ReplicaConnection) -> bool:
        """Whether a connection carries the stream."""
        return any(ear.connection is connection for ear in self._ears())

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
        """Open the stream on a connection. The replica that serves it goes on until the answer.

        Raises:
            PeerFailedError: the connection is lost.
        """
        first_time = self._info is None
        log = self._source.log
        self._answer = asyncio.get_running_loop().create_future()
        ear = Ear(self, self._needed)
        ear.attachment = attachment = connection.attach(
            ear,
            log,
            self._key,
            m.Open(0, info.name, 0, self._opening.options, self._opening.traceparent),
            start=None if first_time else self._needed,
            audio=info.kind is not EngineKind.TTS,
        )
        self.coming = ear
        if info.kind is EngineKind.TTS:
            connection.grant(attachment, CREDIT_BYTES)
        if first_time:
            self._needed = ear.needed = attachment.lane.cursor
            self._origin_s = log.at_s(self._needed)
        if self.current is None:
            self._take_over()

    async def answer(self, timeout_s: float) -> m.Failed | None:
        """Wait for what the replica says to the opening; None means that it serves the stream."""
        if self._answer is None:
            raise RuntimeError("an answer was waited for without an opening")
        try:
            async with asyncio.timeout(timeout_s):
                return await self._answer
        except TimeoutError:
            self._drop_coming()
            return m.Failed(0, LOST, f"no answer came in {timeout_s:g} s", retryable=True)
        finally:
            self._answer = None

    def detach(self) -> None:
        """Leave the replica; input is kept. Idempotent."""
        for ear in self._ears():
            ear.detach()
        self.current = self.coming = None

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
        for ear in self._ears():
            if ear.connection is not None:
                ear.connection.logged(self._source.log, size, urgent=urgent)

    def opened(self, info: EngineInfo) -> None:
        """Note that the replica that was asked serves the stream."""
        self._info = self._info or info
        if self.coming is not None and self.coming is not self.current:
            if self._overtaken(self.coming):
                self.refused(_STALE)
                return
            self._take_over()
        self.coming = None
        self._decide(None)

    def refused(self, failure: m.Failed | None) -> None:
        """Note that the replica that was asked does not serve the stream."""
        self._drop_coming()
        self._decide(failure or m.Failed(0, LOST, "it ended at once", retryable=True))

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
        attachment = self._attachment
        if attachment is None:
            return
        number = attachment.member.flushed_up_to(count)
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
        """Note that the replica that serves the stream ended it."""
        asked, coming = self.coming is self.current, self.coming
        if self.current is not None:
            self.current.detach()
        self.current = None
        if failure is None:
            self.finish(StreamFinishedError(f"engine {self.engine} said everything"))
        elif asked and self._answer is not None:
            self.refused(failure)
        elif not failure.retryable:
            self.finish(end_of(error_of(failure)))
        else:
            # The one that was asked already answers sooner than any other.
            if coming is not None and self._overtaken(coming):
                self.refused(_STALE)
            elif coming is not None:
                self._take_over()
            self._on_failure(self, failure)

    @property
    def _attachment(self) -> Attachment | None:
        return None if self.current is None else self.current.attachment

    def _ears(self) -> tuple[Ear, ...]:
        return tuple({ear: None for ear in (self.current, self.coming) if ear is not None})

    def _overtaken(self, ear: Ear) -> bool:
        # It would say again what the other one has said meanwhile. Windows of a detector are
        # told apart by their times.
        hears_windows = self._info is not None and self._info.kind is EngineKind.VAD
        return ear.needed != self._needed and not hears_windows

    def _take_over(self) -> None:
        """Have the replica that was asked serve the stream, and leave the other one."""
        previous, self.current = self.current, self.coming
        if previous is not None:
            previous.detach()
        if self._info is None or self._attachment is None:  # Its first opening.
            return
        log = self._source.log
        self.replayed_s = log.end_s - log.at_s(max(self._needed, log.first))
        if self._info.kind is EngineKind.TTS:
            self._spoken.reopened()
        elif (edge := self._heard.reopened()) is not None:
            self._give(edge)

    def _drop_coming(self) -> None:
        coming, self.coming = self.coming, None
        if coming is not None:
            coming.detach()
            if coming is self.current:
                self.current = None

    def _decide(self, failure: m.Failed | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(failure)

    def _give(self, output: EngineOutput) -> None:
        if self._end is None and not self._results.try_send(output):
            reason = f"the stream was closed: {RESULT_LIMIT} results were not received"
            self.finish(StreamClosedError(reason))

    def _received(self, size: int) -> None:
        self._received_bytes += size
        attachment = self._attachment
        if attachment is not None and self._received_bytes >= CREDIT_BYTES // 2:
            attachment.connection.grant(attachment, self._received_bytes)
            self._received_bytes = 0

    def _need_from(self, number: int) -> None:
        if number > self._needed:
            self._needed = number
            self._source.trim()
