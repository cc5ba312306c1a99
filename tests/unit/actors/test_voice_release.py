"""What of an agent's tracks leaves the room with its session; the soak tries it in real rooms."""

import asyncio
from types import SimpleNamespace

from livekit import rtc

from voxray.actors.voice_release import release_voice

MICROPHONE = rtc.TrackSource.SOURCE_MICROPHONE


class FakeRoom:
    """A room as far as `release_voice` looks at it."""

    def __init__(self) -> None:
        self.connected = True
        self.publications = {}
        self.unpublished = []
        self.error = None
        self.local_participant = SimpleNamespace(
            track_publications=self.publications, unpublish_track=self._unpublish
        )

    def isconnected(self) -> bool:
        return self.connected

    def publish(self, sid, source=MICROPHONE) -> None:
        self.publications[sid] = SimpleNamespace(sid=sid, source=source)

    async def _unpublish(self, sid) -> None:
        self.unpublished.append(sid)
        if self.error is not None:
            raise self.error


async def settle() -> None:
    """Let the task that a closed session starts run to its end."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others)


async def test_the_voice_goes_and_nothing_else():
    room, session = FakeRoom(), rtc.EventEmitter()
    room.publish("TR_before")
    release_voice(room, session)
    room.publish("TR_voice")
    room.publish("TR_music", rtc.TrackSource.SOURCE_UNKNOWN)
    assert not room.unpublished
    session.emit("close", None)
    await settle()
    assert room.unpublished == ["TR_voice"]


async def test_a_room_that_is_joined_later():
    room, session = FakeRoom(), rtc.EventEmitter()
    room.connected = False
    room.publish("TR_voice")
    release_voice(room, session)
    room.connected = True
    session.emit("close", None)
    await settle()
    assert room.unpublished == ["TR_voice"]


async def test_a_room_that_is_gone_is_left_alone():
    room, session = FakeRoom(), rtc.EventEmitter()
    release_voice(room, session)
    room.publish("TR_voice")
    room.connected = False
    session.emit("close", None)
    await settle()
    assert not room.unpublished


async def test_a_refusal_is_nobody_s_trouble():
    room, session = FakeRoom(), rtc.EventEmitter()
    release_voice(room, session)
    room.publish("TR_one")
    room.publish("TR_two")
    room.error = RuntimeError("the room is closing")
    session.emit("close", None)
    await settle()
    assert room.unpublished == ["TR_one", "TR_two"]
