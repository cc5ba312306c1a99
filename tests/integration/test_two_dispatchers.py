"""Two dispatchers: one dies, the other takes all new jobs, and no call of either notices."""

import os
import secrets
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.integration.test_host_killed import agents_in, answered, live_call
from tests.running_app import PROGRAMS, RunningApp, voxray_app
from voxray.loadtest.caller import Caller
from voxray.loadtest.livekit_server import LiveKitServer

pytestmark = pytest.mark.timeout(240)
PROGRAM = PROGRAMS / "ungreeting.py"
TWO = {"VOXRAY_DISPATCHERS": "2", "VOXRAY_HOSTS__IDLE_HOSTS": "0"}


def rooms_of(status: dict, index: int) -> set[str]:
    """The rooms of the calls on one dispatcher's hosts; index 0 has hosts without a prefix."""
    return {
        job["room"]
        for host in status["hosts"]
        if (host["id"].startswith(f"{index}-") if index else "-" not in host["id"])
        for job in host["jobs"]
    }


async def a_call_on_each(
    app: RunningApp, server: LiveKitServer, stack: AsyncExitStack
) -> dict[int, tuple[str, Caller]]:
    """LiveKit chooses at random: call until both have one; return a room and caller of each."""
    callers: dict[str, Caller] = {}
    while True:
        assert len(callers) < 10, "LiveKit gave one dispatcher ten calls in a row"
        room = f"two-{secrets.token_hex(4)}"
        callers[room] = await stack.enter_async_context(live_call(server, room))
        status = await app.status()
        each = {index: rooms_of(status, index) & callers.keys() for index in (0, 1)}
        if all(each.values()):
            chosen = {index: min(rooms) for index, rooms in each.items()}
            return {index: (room, callers[room]) for index, room in chosen.items()}


async def test_one_of_two_dispatchers_dies(livekit_server: LiveKitServer, tmp_path: Path) -> None:
    async with (
        voxray_app(livekit_server, tmp_path, PROGRAM, environment=TWO) as app,
        AsyncExitStack() as stack,
    ):
        status = await app.until_status(
            lambda now: (
                all(each["state"] == "running" for each in now["dispatchers"])
                and [host["state"] for host in now["hosts"]] == ["ready", "ready"]
            )
        )
        assert [each["index"] for each in status["dispatchers"]] == [0, 1]
        assert len({each["worker_id"] for each in status["dispatchers"]}) == 2
        # Both know the app's one replica; it is shown once.
        assert len(status["replicas"]) == 1
        roles = [(each["labels"]["role"]) for each in await app.get("/sd")]
        assert sorted(roles) == ["dispatcher", "dispatcher", "host", "host", "replica"]
        calls = await a_call_on_each(app, livekit_server, stack)
        before = {room: await agents_in(livekit_server, room) for room, _ in calls.values()}
        for index in (1, 0):
            await kill_one(app, livekit_server, calls, index)
        after = {room: await agents_in(livekit_server, room) for room, _ in calls.values()}
        assert after == before, "no agent left its room"
        jobs = [job for host in (await app.status())["hosts"] for job in host["jobs"]]
        assert all(job["generation"] == 1 for job in jobs)


async def kill_one(
    app: RunningApp,
    server: LiveKitServer,
    calls: dict[int, tuple[str, Caller]],
    index: int,
) -> None:
    """Kill a dispatcher's process; look at what happens while it is down, and once it is back."""
    status = await app.status()
    old_pid = status["dispatchers"][index]["pid"]
    own = {calls[index][0]}
    os.kill(old_pid, signal.SIGKILL)
    room = f"while-{index}-is-down-{secrets.token_hex(4)}"
    async with live_call(server, room):
        for _, caller in calls.values():
            await answered(caller, "green river")
        if index == 0:
            await app.until_back(old_pid)
        status = await app.until_status(
            lambda now: (
                now["dispatchers"][index]["pid"] not in {None, old_pid}
                and now["dispatchers"][index]["registered"]
                and rooms_of(now, index) >= own
            )
        )
        assert room in rooms_of(status, 0) | rooms_of(status, 1)
