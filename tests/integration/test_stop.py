"""Ctrl-C drains, a second one stops now; a clean run says nothing alarming and leaves nothing."""

import asyncio
import re
import signal
from pathlib import Path

import psutil
import pytest
from livekit import api

from tests.running_app import PROGRAMS, voxray_app
from voxray.loadtest.access import LiveKitAccess
from voxray.loadtest.caller import Caller
from voxray.loadtest.livekit_server import LiveKitServer
from voxray.loadtest.speech import speak

pytestmark = pytest.mark.timeout(180)
ALARMING = re.compile(
    r"WARN|ERROR|CRITICAL|Traceback|never awaited|was destroyed|never retrieved|Exception ignored"
)
# True of a machine that has other work to do, and no fault of the stop.
SLOW = re.compile(r"slower than realtime|blocks the event loop")


def access_to(server: LiveKitServer) -> LiveKitAccess:
    return LiveKitAccess(url=server.url, api_key=server.api_key, api_secret=server.api_secret)


async def ask(caller: Caller, words: str) -> str:
    return (await caller.ask(await asyncio.to_thread(speak, words))).answer


async def test_the_first_interrupt_lets_the_call_end_and_the_log_is_clean(
    livekit_server: LiveKitServer, tmp_path: Path, room_name: str
) -> None:
    async with voxray_app(livekit_server, tmp_path, PROGRAMS / "ungreeting.py") as app:
        family = app.processes()
        caller = Caller(access_to(livekit_server), room_name)
        try:
            await caller.join()
            assert await ask(caller, "red house") == "you said red house."
            app.process.send_signal(signal.SIGINT)
            await app.until_status(lambda now: now["dispatchers"][0]["state"] == "draining")
            # The call goes on; nobody else gets in.
            assert await ask(caller, "blue garden") == "you said blue garden."
            assert app.process.poll() is None
        finally:
            await caller.aclose()
        async with api.LiveKitAPI(
            livekit_server.url, livekit_server.api_key, livekit_server.api_secret
        ) as livekit:
            await livekit.room.delete_room(api.DeleteRoomRequest(room=room_name))
        assert await asyncio.to_thread(app.process.wait, 60) == 0, app.output
        _, alive = await asyncio.to_thread(psutil.wait_procs, family, 10)
        assert not alive
        lines = app.output.splitlines()
        alarms = [line for line in lines if ALARMING.search(line) and not SLOW.search(line)]
        assert not alarms
        secret = livekit_server.api_secret
        assert secret not in app.output
        assert "red house" not in app.output, "what was said is nobody's business"


async def test_the_second_interrupt_ends_the_call(
    livekit_server: LiveKitServer, tmp_path: Path, room_name: str
) -> None:
    async with voxray_app(livekit_server, tmp_path, PROGRAMS / "ungreeting.py") as app:
        family = app.processes()
        caller = Caller(access_to(livekit_server), room_name)
        try:
            await caller.join()
            app.process.send_signal(signal.SIGINT)
            await app.until_status(lambda now: now["dispatchers"][0]["state"] == "draining")
            app.process.send_signal(signal.SIGINT)
            # Long before the hour that the program's drain_timeout would allow.
            assert await asyncio.to_thread(app.process.wait, 60) == 0, app.output
        finally:
            await caller.aclose()
        _, alive = await asyncio.to_thread(psutil.wait_procs, family, 10)
        assert not alive
