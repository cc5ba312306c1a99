"""Programs as LiveKit's documentation writes them, one for each feature, run unmodified.

One app runs them all, many calls at once; some also run by themselves. The same calls can be
made with the stock worker, to compare: `DOCUMENTED_ON=stock pytest tests/integration/...`.
"""

import asyncio
import functools
import json
import os
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytest_asyncio
from livekit import api

from tests.fakes.stock_worker import stock_worker
from tests.frontend import Frontend
from tests.integration.documented_calls import CALLS, Place
from tests.running_app import PROGRAMS, ROOT, RunningApp, voxray_app
from voxray.loadtest.access import LiveKitAccess
from voxray.loadtest.livekit_server import LiveKitServer

pytestmark = pytest.mark.timeout(240)

DOCUMENTED = PROGRAMS / "documented"
NAMES = sorted(path.stem for path in DOCUMENTED.glob("*.py") if path.stem != "local_models")
ALONE = ("basic_agent", "handoff")
# Calls at once: they mostly wait, but each hears and speaks in real time.
AT_ONCE = 3


def access_to(server: LiveKitServer) -> LiveKitAccess:
    return LiveKitAccess(url=server.url, api_key=server.api_key, api_secret=server.api_secret)


async def make_call(server: LiveKitServer, home: Path, name: str, program: str | None) -> Place:
    room = f"{name}-{secrets.token_hex(3)}"
    frontend = functools.partial(Frontend, access_to(server), room, program)
    place = Place(frontend, room, home)
    await CALLS[name](place)
    return place


async def check_files(place: Place) -> None:
    """Check what the program left when it ended."""
    for kind, check in place.left.items():
        path = place.home / f"{kind}_{place.room_name}.json"
        async with asyncio.timeout(30):
            # Nothing tells that a file is there; the next look is one interval away.
            while not path.exists() or not path.read_text():  # noqa: ASYNC110 - as said
                await asyncio.sleep(0.1)
        check(json.loads(path.read_text()))


async def close_room(server: LiveKitServer, room: str) -> None:
    """End a room now; LiveKit itself waits 20 s for its caller to come back."""
    async with api.LiveKitAPI(server.url, server.api_key, server.api_secret) as livekit:
        await livekit.room.delete_room(api.DeleteRoomRequest(room=room))


@asynccontextmanager
async def the_app(server: LiveKitServer, home: Path) -> AsyncIterator[RunningApp | None]:
    program = PROGRAMS / "documented_programs.py"
    if os.environ.get("DOCUMENTED_ON") != "stock":
        async with voxray_app(server, home, program) as app:
            yield app
        return
    secret = SimpleNamespace(get_secret_value=lambda: server.api_secret)
    livekit = SimpleNamespace(url=server.url, api_key=server.api_key, api_secret=secret)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        async with stock_worker(program, SimpleNamespace(livekit=livekit), lambda _: None):
            yield None


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def calls(
    request: pytest.FixtureRequest,
    livekit_server: LiveKitServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[dict[str, asyncio.Task[Place]]]:
    """The calls of all chosen tests, already under way: a test only waits for its own."""
    wanted = [
        item.callspec.params["name"]
        for item in request.session.items
        if item.path == request.path and "calls" in item.fixturenames
    ]
    home = tmp_path_factory.mktemp("home")
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(name: str) -> Place:
        async with limit:
            return await make_call(livekit_server, home, name, name)

    async with the_app(livekit_server, home) as app:
        tasks = {name: asyncio.create_task(one(name)) for name in wanted}
        yield tasks
        for task in tasks.values():
            task.cancel()
        await asyncio.wait(tasks.values())
        if app is not None and not any(
            task.cancelled() or task.exception() for task in tasks.values()
        ):
            # Each job has ended, with its room: what would be left of one is a leak.
            await app.until_status(lambda status: not any(h["jobs"] for h in status["hosts"]))


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", NAMES)
async def test_a_documented_program(calls: dict[str, asyncio.Task[Place]], name: str) -> None:
    await check_files(await calls[name])


@pytest.mark.parametrize("name", ALONE)
async def test_a_documented_program_by_itself(
    livekit_server: LiveKitServer, tmp_path: Path, name: str
) -> None:
    async with voxray_app(livekit_server, tmp_path, DOCUMENTED / f"{name}.py"):
        place = await make_call(livekit_server, tmp_path, name, None)
        await close_room(livekit_server, place.room_name)


def test_every_program_has_its_call() -> None:
    assert sorted(CALLS) == NAMES


def test_the_list_of_programs_is_whole() -> None:
    page = (ROOT / "docs" / "programs.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| .* \| \[`(\w+)\.py`\]\(.*/documented/\1\.py\) \|", page, re.MULTILINE)
    assert sorted(listed) == NAMES
