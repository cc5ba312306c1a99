"""An agent made of plain LiveKit participants: greets, and answers whatever it hears.

It knows no speech recognition: it takes anything between two silences for a question, and gives
its next answer. Words travel the way livekit-agents sends them.
"""

import asyncio

import numpy as np
from livekit import api, rtc

from voxray.base.lifecycle import TaskOwner
from voxray.loadtest.access import LiveKitAccess
from voxray.loadtest.listening import SpeechDetector, SpeechEnded
from voxray.loadtest.microphone import Microphone
from voxray.loadtest.speech import SPEECH_RATE, speak_all

IDENTITY = "agent-1"


class RtcAgent:
    """One agent in one room.

    Args:
        greeting: said as soon as somebody is there; empty says nothing.
        answers: what it says to each question, with what it claims to have heard.
    """

    def __init__(self, access: LiveKitAccess, room: str, greeting: str, answers) -> None:
        self._access = access
        self._room_name = room
        self._greeting = greeting
        self._answers = list(answers)
        self._room = rtc.Room()
        self._microphone = Microphone(lambda *_: None)
        self._tasks = TaskOwner("rtc-agent")

    async def __aenter__(self) -> "RtcAgent":
        texts = [self._greeting, *(answer for _, answer in self._answers)]
        self._speech = await speak_all(text for text in texts if text)
        token = (
            api.AccessToken(self._access.api_key, self._access.api_secret)
            .with_identity(IDENTITY)
            .with_kind("agent")
            .with_grants(api.VideoGrants(room_join=True, room=self._room_name, agent=True))
        )
        self._room.on("track_subscribed", self._track_subscribed)
        await self._room.connect(self._access.url, token.to_jwt())
        self._microphone.start()
        await self._room.local_participant.publish_track(
            self._microphone.track,
            rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE),
        )
        return self

    async def __aexit__(self, *_) -> None:
        await self._tasks.aclose()
        await self._microphone.aclose()
        await self._room.disconnect()

    def _track_subscribed(self, track, _publication, participant) -> None:
        self._tasks.spawn("serve", self._serve(track, participant.identity))

    async def _serve(self, track, caller: str) -> None:
        if self._greeting:
            await self._say(self._greeting)
        detector = SpeechDetector(SPEECH_RATE)
        stream = rtc.AudioStream(track, sample_rate=SPEECH_RATE, num_channels=1, frame_size_ms=20)
        answers = iter(self._answers)
        loop = asyncio.get_running_loop()
        try:
            async for event in stream:
                samples = np.frombuffer(event.frame.data, dtype=np.int16)
                if isinstance(detector.push(loop.time(), samples), SpeechEnded):
                    heard, answer = next(answers, ("", ""))
                    if answer:
                        await self._words(caller, heard)
                        await self._say(answer)
        finally:
            await stream.aclose()

    async def _say(self, text: str) -> None:
        await self._state("speaking")
        await self._microphone.say(self._speech[text])
        await self._words(IDENTITY, text)
        await self._state("listening")

    async def _state(self, state: str) -> None:
        await self._room.local_participant.set_attributes({"lk.agent.state": state})

    async def _words(self, speaker: str, text: str) -> None:
        writer = await self._room.local_participant.stream_text(
            topic="lk.transcription",
            sender_identity=speaker,
            attributes={"lk.segment_id": f"SG_{text}", "lk.transcription_final": "true"},
        )
        await writer.write(text)
        await writer.aclose()
