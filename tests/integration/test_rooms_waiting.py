"""Nobody is left alone: rooms made while the app was full, down, or being killed get one agent."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.running_app import PROGRAMS, RunningApp, voxray_app
from tests.silent_callers import Rooms, SilentCaller, access_to
from voxray.loadtest.livekit_server import LiveKitServer

pytestmark = pytest.mark.timeout(300)
PROGRAM = PROGRAMS / "quiet.py"
FULL_AT = 4
CALLERS = 10
NAME = "quiet-one"


@asynccontextmanager
async def rooms_of(server: LiveKitServer) -> AsyncIterator[Rooms]:
    rooms = Rooms(server)
    try:
        yield rooms
    finally:
        await rooms.aclose()


@asynccontextmanager
async def hanging_up(callers: Iterable[SilentCaller]) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await asyncio.gather(*(caller.aclose() for caller in callers))


async def agent_came(app: RunningApp, caller: SilentCaller) -> None:
    """Wait for the caller's agent; say what the app saw if none comes."""
    try:
        await caller.until_agent()
    except AssertionError as error:
        seen = [each for each in await app.events() if each["type"] != "CapacityChanged"]
        last = "\n".join(map(str, seen[-60:]))
        raise AssertionError(f"{error}; {await app.status()}\n{last}") from None


async def end_all(rooms: Rooms, callers: Iterable[SilentCaller]) -> None:
    """End the calls: the app's drain waits for them."""
    for caller in callers:
        await caller.aclose()
        await rooms.close_if_open(caller.room_name)


def sample(metrics: str, name: str) -> float:
    """Return the value of one series of a metrics page."""
    (value,) = [line.split()[-1] for line in metrics.splitlines() if line.startswith(f"{name} ")]
    return float(value)


def one_host() -> dict[str, str]:
    return {
        "VOXRAY_HOSTS__SESSIONS_PER_HOST": str(FULL_AT),
        "VOXRAY_HOSTS__MAX_HOSTS": "1",
        "VOXRAY_HOSTS__IDLE_HOSTS": "0",
        "VOXRAY_INFERENCE__GROUPS": "[]",
    }


async def test_full_then_not_and_down_then_up(
    livekit_server: LiveKitServer, tmp_path: Path, room_name: str
) -> None:
    access = access_to(livekit_server)
    early = [SilentCaller(access, f"early-{room_name}-{number}") for number in range(2)]
    brief = SilentCaller(access, f"brief-{room_name}")
    callers = [SilentCaller(access, f"{room_name}-{number}") for number in range(CALLERS)]
    async with rooms_of(livekit_server) as rooms, hanging_up([*early, brief, *callers]):
        # They call while nothing runs that could answer.
        for caller in early:
            await caller.join()
        async with voxray_app(livekit_server, tmp_path, PROGRAM, environment=one_host()) as app:
            await served_early(app, rooms, early)
            # Its agent comes and leaves on purpose, long before the searches below.
            await brief.join()
            offer = await app.until_event("JobOffered", lambda it: it["room"] == brief.room_name)
            ended = await app.until_event("JobEnded", lambda it: it["job_id"] == offer["job_id"])
            assert (ended["outcome"], ended["reason"]) == ("success", "said enough")

            await one_by_one(app, rooms, callers)
            metrics = await app.get("/metrics")
            found = len(early) + CALLERS - FULL_AT
            assert sample(metrics, "voxray_room_wait_seconds_count") == found
            assert sample(metrics, "voxray_rooms_waiting") == 0
            assert [len(caller.agents) for caller in (*early, *callers)] == [1] * (2 + CALLERS)
            assert len(brief.agents) <= 1, "it may have left before its caller was all there"
            assert len(await rooms.dispatches(brief.room_name)) == 1
            await end_all(rooms, [brief, *callers])


async def served_early(app: RunningApp, rooms: Rooms, early: list[SilentCaller]) -> None:
    """Those who called before the start have their agent; hang up for them."""
    for caller in early:
        await agent_came(app, caller)
        assert caller.agents == await rooms.agents_in(caller.room_name)
    log = await app.events("WorkerRegistered", "HostReady", "RoomServed")
    (registered,) = [each["seen_at"] for each in log if each["type"] == "WorkerRegistered"]
    served = [each["seen_at"] for each in log if each["type"] == "RoomServed"]
    waits = ", ".join(f"{at - registered:.2f}" for at in served)
    sys.stdout.write(f"\nplaced {waits} s after the registration\n")
    for caller in early:
        await caller.aclose()
        await rooms.close(caller.room_name)
    await app.until_status(lambda now: now["dispatchers"][0]["used"] == 0)


async def one_by_one(app: RunningApp, rooms: Rooms, callers: list[SilentCaller]) -> None:
    """Ten call where four fit; as one hangs up the one who waits longest is served."""
    for caller in callers:
        await caller.join()
    first, waiting = callers[:FULL_AT], callers[FULL_AT:]
    for caller in first:
        await agent_came(app, caller)
    await app.until_event("RoomsWaiting", lambda event: event["count"] == len(waiting))
    assert not any(caller.agents for caller in waiting)
    began = time.monotonic()
    for leaver, next_one in zip(callers, waiting, strict=False):
        await leaver.aclose()
        await rooms.close(leaver.room_name)
        await agent_came(app, next_one)
        assert next_one.agents == await rooms.agents_in(next_one.room_name)
    sys.stdout.write(f"{len(waiting)} handed on in {time.monotonic() - began:.1f} s\n")
    served = [event["room"] for event in await app.events("RoomServed")]
    assert served[-len(waiting) :] == [caller.room_name for caller in waiting]


async def test_rooms_made_while_the_dispatcher_is_down(
    livekit_server: LiveKitServer, tmp_path: Path, room_name: str
) -> None:
    access = access_to(livekit_server, NAME)
    by_token = SilentCaller(access, f"token-{room_name}")
    by_api = SilentCaller(access_to(livekit_server), f"api-{room_name}")
    callers = [SilentCaller(access, f"{room_name}-{number}") for number in range(6)]
    environment = {
        "LIVEKIT_AGENT_NAME": NAME,
        "VOXRAY_INFERENCE__GROUPS": "[]",
        "VOXRAY_HOSTS__MAX_HOSTS": "1",
    }
    everyone = [by_token, by_api, *callers]
    async with rooms_of(livekit_server) as rooms, hanging_up(everyone):
        await by_token.join()
        await by_api.join()
        asked = await rooms.dispatch(by_api.room_name, NAME, '{"who": "me"}')
        async with voxray_app(livekit_server, tmp_path, PROGRAM, environment=environment) as app:
            await agent_came(app, by_token)
            await agent_came(app, by_api)
            stand_in = next(
                each
                for each in await rooms.dispatches(by_api.room_name)
                if each.agent_name == NAME and each.id != asked
            )
            assert stand_in.metadata == '{"who": "me"}'

            pid = (await app.status())["dispatchers"][0]["pid"]
            joins = [asyncio.create_task(caller.join()) for caller in callers[:3]]
            os.kill(pid, signal.SIGKILL)
            await asyncio.gather(*joins)
            for caller in callers[3:]:
                await caller.join()
            back = await app.until_back(pid)
            assert back["dispatchers"][0]["pid"] != pid
            for caller in callers:
                await agent_came(app, caller)
            # Whoever deletes the dispatch that he made ends the job of its stand-in.
            await rooms.delete_dispatch(by_api.room_name, asked)
            await app.until_event("JobEnded")
            assert not await rooms.agents_in(by_api.room_name)
            for caller in (by_token, *callers):
                assert len(await rooms.agents_in(caller.room_name)) == 1
            assert [len(caller.agents) for caller in everyone] == [1] * len(everyone)
            await end_all(rooms, everyone)
