"""Asking a dispatcher for the turns of a room, over real HTTP."""

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from voxray.base.errors import ConnectionFailedError, ProtocolError
from voxray.loadtest.turns_api import TurnRecord, TurnsApi


@pytest.fixture
async def dispatcher():
    """A dispatcher that answers with `pages`, one after the other, the last one for ever."""
    pages, requests = [], []

    async def turns(request):
        requests.append((request.query.get("room"), request.headers.get("Authorization")))
        page = pages.pop(0) if len(pages) > 1 else pages[0]
        if isinstance(page, list):
            after = int(request.query["after"])
            page = [turn for turn in page if "cursor" not in turn or turn["cursor"] > after]
        return page if isinstance(page, web.Response) else web.json_response(page)

    app = web.Application()
    app.router.add_get("/turns", turns)
    async with TestServer(app) as server:
        server.pages, server.requests = pages, requests
        yield server


def record(number, **fields):
    return {"cursor": 10 + number, "number": number, "stages": {"e2e": 0.5}, "tools": [], **fields}


async def test_newest_turn_once(dispatcher):
    dispatcher.pages.append([record(1, tools=["next_train"], model="x"), record(2)])
    async with TurnsApi(str(dispatcher.make_url("/")), "room-1", token="t") as api:
        assert (await api.next_turn(5)).number == 2
        assert await api.next_turn(0) is None
    assert dispatcher.requests[0] == ("room-1", "Bearer t")


async def test_waits_for_a_turn(dispatcher):
    dispatcher.pages.extend([[], [], [record(1, tools=["a", "b"])]])
    async with TurnsApi(str(dispatcher.make_url("/")), "room-1") as api:
        assert await api.next_turn(30) == TurnRecord(
            number=1, stages={"e2e": 0.5}, tools=("a", "b")
        )
    assert dispatcher.requests[0] == ("room-1", None)


@pytest.mark.parametrize(
    "page",
    [
        5,
        {"turns": []},
        [{"cursor": 1, "stages": {}}],
        [{"number": 1, "cursor": 1, "stages": []}],
        ["x"],
    ],
)
async def test_answer_that_holds_no_turns(dispatcher, page):
    dispatcher.pages.append(page)
    async with TurnsApi(str(dispatcher.make_url("/")), "room-1") as api:
        with pytest.raises(ProtocolError):
            await api.next_turn(0)


async def test_refusal(dispatcher):
    dispatcher.pages.append(web.Response(status=401))
    async with TurnsApi(str(dispatcher.make_url("/")), "room-1") as api:
        with pytest.raises(ConnectionFailedError, match="401"):
            await api.next_turn(0)


async def test_nobody_there():
    async with TurnsApi("http://127.0.0.1:9", "room-1") as api:
        with pytest.raises(ConnectionFailedError):
            await api.next_turn(0)
