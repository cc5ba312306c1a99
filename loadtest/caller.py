"""One synthetic caller: joins a room, speaks, listens, and measures what a person would notice.

It sees what any client sees: the agent's audio, its participant, and the transcription streams.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from livekit import rtc

from voxray.base.errors import ConnectionFailedError, DeadlineError
from voxray.base.lifecycle import TaskOwner
from voxray.loadtest.access import LiveKitAccess
from voxray.loadtest.listening import SpeechDetector, SpeechEdge, SpeechEnded
from voxray.loadtest.microphone import Microphone
from voxray.loadtest.recording import Recording, Side
from voxray.loadtest.speech import SPEECH_RATE
from voxray.loadtest.transcript import TRANSCRIPTION_TOPIC, Transcript
from voxray.loadtest.turn_clock import Outcome, TurnClock
from voxray.loadtest.waiting import Changes
from voxray.pipelines.engines.base import Samples

_CALLER = "caller"
_FRAME_MS = 20
_AGENT_STATE = "lk.agent.state"
_BUSY_STATES = frozenset({"thinking", "speaking"})
# Words travel apart from the audio; the last of them come this much later at most.
_TRANSCRIPT_LAG_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a caller waits, in seconds.

    Attributes:
        connect_s: for the room.
        agent_s: for the agent and its audio track, from the creation of the room.
        greeting_s: for the end of a greeting.
        answer_s: for the end of an answer, from the end of the question.
    """

    connect_s: float = 15.0
    agent_s: float = 30.0
    greeting_s: float = 20.0
    answer_s: float = 25.0


@dataclass(frozen=True, kw_only=True)
class JoinTimes:
    """Seconds from the creation of the room until the agent was there."""

    agent_joined_s: float
    agent_audible_s: float


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """One question and what came of it.

    Attributes:
        latency_s: end of speech to first audio of the answer; None without an answer.
        heard: the caller's words as the agent recognised them.
        answer: the agent's words.
        talked_over: the agent spoke while the caller was asking.
    """

    outcome: Outcome
    latency_s: float | None
    heard: str
    answer: str
    talked_over: bool


class Caller:
    """A caller in one room."""

    def __init__(
        self,
        access: LiveKitAccess,
        room_name: str,
        *,
        patience: Patience | None = None,
        recording: Recording | None = None,
    ) -> None:
        self._access = access
        self.room_name = room_name
        self._patience = patience or Patience()
        self._recording = recording
        self._room = rtc.Room()
        self._microphone: Microphone | None = None
        self._tasks = TaskOwner("caller")
        self._changes = Changes()
        self._detector = SpeechDetector(SPEECH_RATE)
        self._transcript = Transcript()
        self._turn: TurnClock | None = None
        self._agent: str | None = None
        self._agent_joined_s: float | None = None
        self._agent_audible_s: float | None = None
        self._utterances = 0
        self._closed = False

    async def join(self) -> JoinTimes:
        """Create the room by joining it, and wait for the agent.

        Raises:
            ConnectionFailedError: LiveKit can't be reached, refused the caller or threw it out.
            DeadlineError: no agent came, or it published no audio track.
        """
        self._subscribe()
        created_s = time.monotonic()
        await self._connect()
        for participant in self._room.remote_participants.values():
            self._participant_connected(participant)
        microphone = self._microphone = Microphone(self._spoken)
        microphone.start()
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        await self._room.local_participant.publish_track(microphone.track, options)
        left_s = self._patience.agent_s - (time.monotonic() - created_s)
        await self._wait(lambda: self._agent_audible_s is not None, left_s)
        if self._agent_joined_s is None:
            raise DeadlineError(
                f"no agent came to room {self.room_name} within {self._patience.agent_s:g} s"
            )
        if self._agent_audible_s is None:
            raise DeadlineError(
                f"the agent in room {self.room_name} published no audio track within "
                f"{self._patience.agent_s:g} s"
            )
        return JoinTimes(
            agent_joined_s=self._agent_joined_s - created_s,
            agent_audible_s=self._agent_audible_s - created_s,
        )

    async def hear_greeting(self) -> bool:
        """Wait for the end of the agent's greeting; return whether there was one.

        Raises:
            ConnectionFailedError: the caller fell out of the room.
        """
        return await self._wait(
            lambda: self._utterances > 0 and self._agent_idle(), self._patience.greeting_s
        )

    async def ask(self, samples: Samples) -> Exchange:
        """Speak a question and listen to the answer. Call `join` first.

        Raises:
            ConnectionFailedError: the caller fell out of the room.
        """
        if self._microphone is None:
            raise RuntimeError("a caller joins before it asks")
        self._transcript.clear()
        turn = self._turn = TurnClock(agent_speaking=self._detector.speaking)
        turn.question_ended(await self._microphone.say(samples))
        answered = await self._wait(
            lambda: turn.outcome is Outcome.ANSWERED and self._agent_idle(),
            self._patience.answer_s,
        )
        if answered:
            await self._wait(self._words_settled, _TRANSCRIPT_LAG_S)
        self._turn = None
        return Exchange(
            outcome=turn.outcome,
            latency_s=turn.latency_s,
            heard=self._transcript.words_of(_CALLER),
            answer=self._transcript.words_of(self._agent or ""),
            talked_over=turn.talked_over,
        )

    async def aclose(self) -> None:
        """Hang up. Idempotent."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._microphone is not None:
                await self._microphone.aclose()
        finally:
            await self._room.disconnect()
            await self._tasks.aclose()

    def _subscribe(self) -> None:
        room = self._room
        room.on("participant_connected", self._participant_connected)
        room.on("participant_disconnected", self._participant_disconnected)
        room.on("participant_attributes_changed", lambda *_: self._changes.notify())
        room.on("track_subscribed", self._track_subscribed)
        room.on("disconnected", lambda *_: self._changes.notify())
        room.register_text_stream_handler(TRANSCRIPTION_TOPIC, self._stream_opened)

    async def _connect(self) -> None:
        token = self._access.caller_token(self.room_name, _CALLER)
        try:
            async with asyncio.timeout(self._patience.connect_s):
                await self._room.connect(self._access.url, token)
        except TimeoutError as error:
            raise ConnectionFailedError(
                f"joining room {self.room_name} at {self._access.url} took more than "
                f"{self._patience.connect_s:g} s; check the address, and that the server's media "
                "port (UDP) can be reached"
            ) from error
        except rtc.ConnectError as error:
            raise ConnectionFailedError(
                f"the caller can't join room {self.room_name} at {self._access.url}: {error}"
            ) from error

    async def _wait(self, reached: Callable[[], bool], timeout_s: float) -> bool:
        done = await self._changes.until(
            lambda: reached() or not self._room.isconnected(), timeout_s
        )
        if not self._room.isconnected():
            raise ConnectionFailedError(f"the caller fell out of room {self.room_name}")
        return done

    def _agent_idle(self) -> bool:
        """Whether the agent is silent, and not about to speak as far as it tells."""
        if self._detector.speaking:
            return False
        agent = self._room.remote_participants.get(self._agent or "")
        return agent is None or agent.attributes.get(_AGENT_STATE) not in _BUSY_STATES

    def _words_settled(self) -> bool:
        return self._transcript.settled(_CALLER) and self._transcript.settled(self._agent or "")

    def _participant_connected(self, participant: rtc.RemoteParticipant) -> None:
        if participant.kind != rtc.ParticipantKind.PARTICIPANT_KIND_AGENT:
            return
        self._agent = participant.identity
        self._agent_joined_s = self._agent_joined_s or time.monotonic()
        self._changes.notify()

    def _participant_disconnected(self, _participant: rtc.RemoteParticipant) -> None:
        self._changes.notify()

    def _track_subscribed(
        self,
        track: rtc.Track,
        _publication: rtc.RemoteTrackPublication,
        participant: rtc.RemoteParticipant,
    ) -> None:
        if track.kind != rtc.TrackKind.KIND_AUDIO or self._closed:
            return
        self._participant_connected(participant)
        if participant.identity == self._agent:
            self._agent_audible_s = self._agent_audible_s or time.monotonic()
            self._tasks.spawn("listen", self._listen(track))
            self._changes.notify()

    async def _listen(self, track: rtc.Track) -> None:
        stream = rtc.AudioStream(
            track, sample_rate=SPEECH_RATE, num_channels=1, frame_size_ms=_FRAME_MS
        )
        try:
            async for event in stream:
                at_s = time.monotonic()
                samples: Samples = np.frombuffer(event.frame.data, dtype=np.int16)
                self._agent_edge(self._detector.push(at_s, samples))
                if self._recording is not None:
                    began_s = at_s - len(samples) / SPEECH_RATE
                    self._recording.add(Side.AGENT, began_s, samples)
            self._agent_edge(self._detector.stop())
        finally:
            await stream.aclose()

    def _agent_edge(self, edge: SpeechEdge | None) -> None:
        if edge is None:
            return
        if isinstance(edge, SpeechEnded):
            self._utterances += 1
        if self._turn is not None:
            self._turn.heard(edge)
        self._changes.notify()

    def _spoken(self, at_s: float, samples: Samples) -> None:
        if self._recording is not None:
            self._recording.add(Side.CALLER, at_s, samples)

    def _stream_opened(self, reader: rtc.TextStreamReader, speaker: str) -> None:
        if not self._closed:
            self._tasks.spawn("transcript", self._read(reader, speaker))

    async def _read(self, reader: rtc.TextStreamReader, speaker: str) -> None:
        info = reader.info
        segment = self._transcript.begin(speaker, info.stream_id, info.attributes or {})
        text = ""
        try:
            async for chunk in reader:
                text += chunk
                self._transcript.grow(segment, info.stream_id, text)
            self._transcript.end(segment, info.stream_id, reader.info.attributes or {})
        except rtc.StreamError:
            # Cut off with its sender; what came so far counts.
            self._transcript.end(segment, info.stream_id, {})
        finally:
            reader.close()
            self._changes.notify()
