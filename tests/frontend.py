"""A frontend as LiveKit's documentation describes one: what a web page in a call sees and does."""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
from livekit import api, rtc

from voxray.base.lifecycle import TaskOwner
from voxray.loadtest.access import LiveKitAccess
from voxray.loadtest.listening import level_dbfs
from voxray.loadtest.microphone import Microphone
from voxray.loadtest.speech import SPEECH_RATE, speak
from voxray.loadtest.transcript import TRANSCRIPTION_TOPIC
from voxray.loadtest.waiting import Changes

CHAT_TOPIC = "lk.chat"
VOICE_TRACK = "roomio_audio"
BACKGROUND_TRACK = "background_audio"
_AGENT_STATE = "lk.agent.state"
_FINAL = "lk.transcription_final"
# Only a call that hangs waits this long, also on a machine that does ten other things.
_PATIENCE_S = 45.0


@dataclass(frozen=True)
class Segment:
    """A text stream that has ended: a transcript's segment, or a text of the program."""

    speaker: str
    text: str
    attributes: dict[str, str]


class Frontend:
    """One participant. Names of the program it wants go with its token, as the job's metadata.

    Attributes:
        texts: ended text streams by topic.
        files: ended byte streams by topic: name and content.
        packets: data packets: topic and content.
        levels: by name of an audio track, the level of each 20 ms frame in dBFS, and the frames.
    """

    def __init__(
        self,
        access: LiveKitAccess,
        room_name: str,
        program: str | None = None,
        *,
        identity: str = "caller",
        topics: tuple[str, ...] = (),
        file_topics: tuple[str, ...] = (),
    ) -> None:
        self.access = access
        self.room_name = room_name
        self.identity = identity
        self.room = rtc.Room()
        self.texts: dict[str, list[Segment]] = defaultdict(list)
        self.files: dict[str, list[tuple[str, bytes]]] = defaultdict(list)
        self.packets: list[tuple[str, bytes]] = []
        self.levels: dict[str, list[float]] = defaultdict(list)
        self.frames: dict[str, list[np.ndarray]] = defaultdict(list)
        self._program = program
        self._read = 0
        self._changes = Changes()
        self._tasks = TaskOwner("frontend")
        self._microphone: Microphone | None = None
        self._published: rtc.LocalTrackPublication | None = None
        self._has_spoken = False
        for topic in (TRANSCRIPTION_TOPIC, *topics):
            self.room.register_text_stream_handler(topic, self._text_opened)
        for topic in file_topics:
            self.room.register_byte_stream_handler(topic, self._file_opened)
        for event in (
            "participant_connected",
            "participant_disconnected",
            "participant_attributes_changed",
            "participant_metadata_changed",
            "disconnected",
        ):
            self.room.on(event, lambda *_: self._changes.notify())
        self.room.on("data_received", self._data_received)
        self.room.on("track_subscribed", self._track_subscribed)

    async def __aenter__(self) -> Self:
        """Join the room."""
        await self.room.connect(self.access.url, self._token())
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Hang up."""
        if self._microphone is not None:
            await self._microphone.aclose()
        await self.room.disconnect()
        await self._tasks.aclose()

    @property
    def agent(self) -> rtc.RemoteParticipant | None:
        """The agent in the room."""
        for participant in self.room.remote_participants.values():
            if participant.kind == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT:
                return participant
        return None

    @property
    def state(self) -> str:
        """What the agent says it does; empty without an agent."""
        return self.agent.attributes.get(_AGENT_STATE, "") if self.agent else ""

    def attribute(self, name: str) -> str | None:
        """Return an attribute of the agent."""
        return self.agent.attributes.get(name) if self.agent else None

    @property
    def said(self) -> list[Segment]:
        """What the agent said, as it is written, so far."""
        return [each for each in self.texts[TRANSCRIPTION_TOPIC] if each.speaker != self.identity]

    @property
    def understood(self) -> list[str]:
        """What the caller said, as it was recognised."""
        return [
            each.text
            for each in self.texts[TRANSCRIPTION_TOPIC]
            if each.speaker == self.identity and each.attributes.get(_FINAL) == "true"
        ]

    def told(self, topic: str) -> list[str]:
        """Return the texts that came on a topic."""
        return [each.text for each in self.texts[topic]]

    async def until(self, reached: Callable[[], object], timeout_s: float = _PATIENCE_S) -> None:
        """Wait for something to be so; fail with all that was seen."""
        if not await self._changes.until(lambda: bool(reached()), timeout_s):
            raise AssertionError(
                f"{self._program}: not within {timeout_s:g} s; agent state {self.state!r}, "
                f"texts {dict(self.texts)}, packets {self.packets}"
            )

    async def ready(self) -> None:
        """Wait until the agent listens."""
        await self.until(lambda: self.state == "listening")

    async def hears(self, text: str) -> Segment:
        """Wait until the agent says something new with these words; return it."""

        def found() -> Segment | None:
            fresh = enumerate(self.said[self._read :], self._read + 1)
            for index, segment in fresh:
                if text in segment.text:
                    self._read = index
                    return segment
            return None

        segment: Segment | None = None

        def look() -> bool:
            nonlocal segment
            segment = segment or found()
            return segment is not None

        await self.until(look)
        assert segment is not None
        return segment

    async def type(self, text: str) -> None:
        """Send a chat message."""
        await self.room.local_participant.send_text(text, topic=CHAT_TOPIC)

    async def ask(self, text: str, answer: str) -> Segment:
        """Send a chat message, and wait for the answer and for the agent to listen again."""
        await self.type(text)
        segment = await self.hears(answer)
        await self.ready()
        return segment

    async def call(self, method: str, payload: str = "") -> str:
        """Call a method of the agent."""
        assert self.agent is not None
        return await self.room.local_participant.perform_rpc(
            destination_identity=self.agent.identity,
            method=method,
            payload=payload,
            response_timeout=_PATIENCE_S,
        )

    async def switch_microphone_on(self) -> rtc.LocalTrackPublication:
        """Publish a microphone that is silent until `speak`."""
        self._microphone = Microphone(lambda *_: None)
        self._microphone.start()
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        self._published = await self.room.local_participant.publish_track(
            self._microphone.track, options
        )
        return self._published

    async def speak(self, words: str) -> None:
        """Say words into the microphone; returns when the last of them is on its way.

        The first ones wait until someone listens: what is said before is heard by nobody.
        """
        samples = await asyncio.to_thread(speak, words)
        if self._microphone is None:
            await self.switch_microphone_on()
        assert self._microphone is not None
        assert self._published is not None
        if not self._has_spoken:
            await self._published.wait_for_subscription()
            # The agent opens its ears a moment after the server has told of them.
            samples = np.concatenate([np.zeros(SPEECH_RATE // 2, samples.dtype), samples])
            self._has_spoken = True
        await self._microphone.say(samples)

    def loud_share(self, track: str, since: int = 0, above_dbfs: float = -50.0) -> float:
        """Return the share of a track's frames since one that are louder than a level."""
        frames = self.levels[track][since:]
        return sum(level > above_dbfs for level in frames) / len(frames) if frames else 0.0

    def _token(self) -> str:
        token = (
            api.AccessToken(self.access.api_key, self.access.api_secret)
            .with_identity(self.identity)
            .with_grants(
                api.VideoGrants(room_join=True, room=self.room_name, can_update_own_metadata=True)
            )
            .with_attributes({"name": "sam"})
            .with_metadata("gold member")
        )
        dispatches = (
            [api.RoomAgentDispatch(agent_name="documented", metadata=self._program)]
            if self._program is not None
            else []
        )
        # The room ends soon after its last caller, and its job with it.
        room = api.RoomConfiguration(agents=dispatches, departure_timeout=1)
        return token.with_room_config(room).to_jwt()

    def _text_opened(self, reader: rtc.TextStreamReader, speaker: str) -> None:
        self._tasks.spawn("text", self._read_text(reader, speaker))

    async def _read_text(self, reader: rtc.TextStreamReader, speaker: str) -> None:
        try:
            text = await reader.read_all()
        except rtc.StreamError:
            return  # Cut off with the call.
        finally:
            reader.close()
        attributes = dict(reader.info.attributes or {})
        self.texts[reader.info.topic].append(Segment(speaker, " ".join(text.split()), attributes))
        self._changes.notify()

    def _file_opened(self, reader: rtc.ByteStreamReader, _sender: str) -> None:
        self._tasks.spawn("file", self._read_file(reader))

    async def _read_file(self, reader: rtc.ByteStreamReader) -> None:
        content = b"".join([chunk async for chunk in reader])
        self.files[reader.info.topic].append((reader.info.name, content))
        self._changes.notify()

    def _data_received(self, packet: rtc.DataPacket) -> None:
        self.packets.append((packet.topic or "", bytes(packet.data)))
        self._changes.notify()

    def _track_subscribed(
        self, track: rtc.Track, publication: rtc.RemoteTrackPublication, *_: object
    ) -> None:
        if track.kind == rtc.TrackKind.KIND_AUDIO:
            self._tasks.spawn("listen", self._listen(track, publication.name))
        self._changes.notify()

    async def _listen(self, track: rtc.Track, name: str) -> None:
        stream = rtc.AudioStream(track, sample_rate=SPEECH_RATE, num_channels=1, frame_size_ms=20)
        try:
            async for event in stream:
                samples = np.frombuffer(event.frame.data, dtype=np.int16)
                self.frames[name].append(samples)
                self.levels[name].append(level_dbfs(samples))
                self._changes.notify()
        finally:
            await stream.aclose()
