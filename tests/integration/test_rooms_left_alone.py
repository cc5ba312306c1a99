"""Who is searched for and who is not: agents of participants, rejected and finished calls."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.running_app import PROGRAMS, RunningApp, voxray_app
from tests.silent_callers import Rooms, SilentCaller, access_to
from voxray.loadtest.livekit_server import LiveKitServer

pytestmark = pytest.mark.timeout(300)
NAME = "choosy-one"
SLOTS = 2


def small_app(**environment: str) -> dict[str, str]:
    return {
        "VOXRAY_HOSTS__SESSIONS_PER_HOST": str(SLOTS),
        "VOXRAY_HOSTS__MAX_HOSTS": "1",
        "VOXRAY_HOSTS__IDLE_HOSTS": "0",
        "VOXRAY_INFERENCE__GROUPS": "[]",
        # The more looks at its rooms, the more chances to give a call a second agent.
        "VOXRAY_RECONCILER__INTERVAL_S": "1",
        **environment,
    }


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


@pytest.mark.parametrize("whom", ["publishers", "participants"])
async def test_each_participant_has_an_agent_of_its_own(
    livekit_server: LiveKitServer, tmp_path: Path, room_name: str, whom: str
) -> None:
    access = access_to(livekit_server)
    watcher, early, late, last = (
        SilentCaller(access, room_name, identity)
        for identity in ("watcher", "early", "late", "last")
    )
    publish = whom == "publishers"
    async with rooms_of(livekit_server) as rooms, hanging_up([watcher, early, late, last]):
        # The server counts it as nobody's caller where agents attend to publishers.
        if publish:
            await watcher.join()
        await early.join()
        if publish:
            await early.publish()
        environment = small_app(ATTENDS_TO=whom)
        program = PROGRAMS / "attending.py"
        async with voxray_app(livekit_server, tmp_path, program, environment=environment) as app:
            await early.until_attended("early")
            await late.join()
            if publish:
                await late.publish()
            await early.until_attended("early", "late")
            # No slot is left for the third; a slot is free once the first has left.
            await last.join()
            if publish:
                await last.publish()
            await app.until_event("RoomsWaiting", lambda event: event["count"] == 1)
            await early.aclose()
            await late.until_attended("late", "last")
            assert Counter(late.attended) == {"early": 1, "late": 1, "last": 1}
            assert len(await rooms.agents_in(room_name)) == SLOTS
            await end_room(rooms, app, room_name)
            placed = await app.events("RoomServed")
            assert [event["room"] for event in placed] == [room_name] * 2


async def end_room(rooms: Rooms, app: RunningApp, room: str) -> None:
    await rooms.close(room)
    await app.until_status(lambda now: now["dispatchers"][0]["used"] == 0)


async def test_no_agent_for_those_who_need_none_and_a_named_one_for_who_waits(
    livekit_server: LiveKitServer, tmp_path: Path, room_name: str
) -> None:
    access = access_to(livekit_server, NAME)
    alone = [
        SilentCaller(access, f"{kind}-{room_name}")
        for kind in ("rejected", "rejected-for-all", "left", "session")
    ]
    holders = [SilentCaller(access, f"holder-{room_name}-{number}") for number in range(SLOTS)]
    user = SilentCaller(access_to(livekit_server), f"user-{room_name}")
    program = PROGRAMS / "choosy.py"
    async with (
        rooms_of(livekit_server) as rooms,
        hanging_up([*alone, *holders, user]),
        voxray_app(
            livekit_server, tmp_path, program, environment=small_app(LIVEKIT_AGENT_NAME=NAME)
        ) as app,
    ):
        for caller in alone:
            await caller.join()
            ended = await its_end(app, caller)
            assert (ended["outcome"] == "rejected") == caller.room_name.startswith("rejected")
        for holder in holders:
            await holder.join()
            await holder.until_agent()

        await user.join()
        asked = await rooms.dispatch(user.room_name, NAME, '{"order": 7}', color="green")
        await app.until_event("RoomFound", of(user))
        assert not user.agents
        await end_room_of(rooms, holders[0])
        await user.until_agent()
        (attributes,) = user.attributes
        assert (attributes["metadata"], attributes["color"]) == ('{"order": 7}', "green")
        listed = {each.id: each for each in await rooms.dispatches(user.room_name)}
        assert asked in listed
        ours = [each for each in listed.values() if each.agent_name == NAME]
        (stand_in,) = (each for each in ours if each.id != asked)
        assert stand_in.metadata == listed[asked].metadata
        assert stand_in.attributes["color"] == listed[asked].attributes["color"]

        await rooms.delete_dispatch(user.room_name, asked)
        await its_end(app, user)

        offered = Counter(event["room"] for event in await app.events("JobOffered"))
        for caller in alone:
            assert offered[caller.room_name] == 1
            assert len(await rooms.dispatches(caller.room_name)) == 1
        assert not await rooms.agents_in(user.room_name)
        for caller in (*alone, *holders[1:]):
            await end_room_of(rooms, caller)


def of(caller: SilentCaller) -> Callable[[dict[str, Any]], bool]:
    return lambda event: event["room"] == caller.room_name


async def its_end(app: RunningApp, caller: SilentCaller) -> dict[str, Any]:
    """Wait for the end of the first job that was offered for a caller."""
    offer = await app.until_event("JobOffered", of(caller))
    return await app.until_event("JobEnded", lambda it: it["job_id"] == offer["job_id"])


async def end_room_of(rooms: Rooms, caller: SilentCaller) -> None:
    await caller.aclose()
    await rooms.close_if_open(caller.room_name)
