"""Looks into rooms when LiveKit does not answer as it should."""

import asyncio
import socket

import pytest
from aiohttp import web
from livekit.protocol.models import ParticipantInfo, Room
from livekit.protocol.room import ListParticipantsResponse, ListRoomsResponse

from voxray.base.settings import LiveKitSettings
from voxray.dispatcher.inputs import RoomAnswer
from voxray.dispatcher.rooms import RoomDirectory

_TWIRP = "/twirp/livekit.RoomService"


def directory(port, **options):
    settings = LiveKitSettings(url=f"ws://127.0.0.1:{port}", api_key="key", api_secret="s" * 32)
    return RoomDirectory(settings, **options)


class RoomServer:
    """A room service with fixed answers: a message, or a status with a Twirp code."""

    def __init__(self, participants, rooms=None):
        self._answers = {"ListParticipants": participants, "ListRooms": rooms}

    async def __aenter__(self):
        app = web.Application()
        app.router.add_post(f"{_TWIRP}/{{method}}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.directory = directory(self._runner.addresses[0][1])
        return self.directory

    async def __aexit__(self, *_):
        await self.directory.aclose()
        await self._runner.cleanup()

    async def _answer(self, request):
        answer = self._answers[request.match_info["method"]]
        if isinstance(answer, tuple):
            status, code = answer
            return web.json_response({"code": code, "msg": "said so"}, status=status)
        return web.Response(body=answer.SerializeToString())


def people(*participants):
    return ListParticipantsResponse(participants=participants)


def rooms(*names):
    return ListRoomsResponse(rooms=[Room(name=name) for name in names])


async def test_an_active_participant():
    agent = ParticipantInfo(
        identity="a", state=ParticipantInfo.State.ACTIVE, joined_at=7, joined_at_ms=7250
    )
    async with RoomServer(people(ParticipantInfo(identity="b"), agent)) as asked:
        presence = await asked.presence("r", "a")
        assert (presence.answer, presence.active, presence.joined_at) == (
            RoomAnswer.PRESENT,
            True,
            7.25,
        )


async def test_a_joining_participant_of_an_older_server():
    agent = ParticipantInfo(identity="a", state=ParticipantInfo.State.JOINING, joined_at=7)
    async with RoomServer(people(agent)) as asked:
        presence = await asked.presence("r", "a")
        assert (presence.answer, presence.active, presence.joined_at) == (
            RoomAnswer.PRESENT,
            False,
            7.0,
        )


async def test_a_disconnected_participant_is_absent():
    agent = ParticipantInfo(identity="a", state=ParticipantInfo.State.DISCONNECTED)
    async with RoomServer(people(agent), rooms("r")) as asked:
        assert await asked.look("r", "a") is RoomAnswer.ABSENT


@pytest.mark.parametrize("participants", [people(), (404, "not_found")])
async def test_a_room_that_is_gone(participants):
    async with RoomServer(participants, rooms("other")) as asked:
        assert await asked.look("r", "a") is RoomAnswer.GONE


@pytest.mark.parametrize(
    ("participants", "room_list", "reason"),
    [
        ((401, "unauthenticated"), None, "livekit refused: unauthenticated (http 401)"),
        ((500, "internal"), None, "livekit refused: internal (http 500)"),
        (people(), (503, "unavailable"), "livekit refused: unavailable (http 503)"),
    ],
)
async def test_what_livekit_refuses_is_unknown(participants, room_list, reason, caplog):
    async with RoomServer(participants, room_list) as asked:
        presence = await asked.presence("confidential", "confidential")
    assert (presence.answer, presence.reason) == (RoomAnswer.UNKNOWN, reason)
    assert [record.reason for record in caplog.records] == [reason]
    assert "confidential" not in caplog.text


async def test_a_server_that_is_away_is_unknown():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        asked = directory(probe.getsockname()[1])
    presence = await asked.presence("r", "a")
    assert presence.answer is RoomAnswer.UNKNOWN
    assert presence.reason == "livekit can't be reached: ClientConnectorError"
    await asked.aclose()


async def test_a_server_that_says_nothing_has_a_deadline():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        asked = directory(silent.getsockname()[1], deadline_s=0.05)
        presence = await asked.presence("r", "a")
        assert presence.reason == "no answer within 0.05 s"
        await asked.aclose()


async def test_a_cancelled_look_is_cancelled():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        asked = directory(silent.getsockname()[1])
        look = asyncio.create_task(asked.look("r", "a"))
        await asyncio.sleep(0)
        look.cancel()
        with pytest.raises(asyncio.CancelledError):
            await look
        await asked.aclose()


async def test_close_is_idempotent_and_ends_all_looks():
    asked = directory(1)
    await asked.aclose()
    await asked.aclose()
    assert (await asked.presence("r", "a")).reason == "we are closing"
