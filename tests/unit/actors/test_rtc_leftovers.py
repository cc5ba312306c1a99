"""What a job leaves of livekit.rtc is taken back, and nobody else's."""

import asyncio
import contextvars
from typing import Any, cast

import pytest
from livekit import rtc
from livekit.rtc import _ffi_client

from voxray.actors.rtc_leftovers import (
    follow_rtc,
    joining,
    leave_rooms,
    let_go_of_streams,
    rooms_of,
)
from voxray.actors.task_scope import TaskScope


@pytest.fixture(autouse=True)
def _following() -> None:
    follow_rtc()
    follow_rtc()


def new_scope(owner: str) -> tuple[TaskScope, contextvars.Context]:
    scope, context = TaskScope(owner), contextvars.copy_context()
    scope.enter(context)
    return scope, context


def subscribed(queue: object) -> bool:
    return any(each is queue for each, *_ in _ffi_client.FfiClient.instance.queue._subscribers)


def subscribe() -> Any:
    return _ffi_client.FfiClient.instance.queue.subscribe()


async def test_a_stream_of_an_ended_job_gathers_nothing_more() -> None:
    ended, context = new_scope("ended")
    _, other_context = new_scope("other")
    left, closed = context.run(subscribe), context.run(subscribe)
    others, nobodys = other_context.run(subscribe), subscribe()
    queue = _ffi_client.FfiClient.instance.queue
    try:
        queue.unsubscribe(closed)
        assert subscribed(left)
        for _ in range(2):
            let_go_of_streams(ended)
        assert not subscribed(left)
        assert subscribed(others)
        assert subscribed(nobodys)
    finally:
        queue.unsubscribe(others)
        queue.unsubscribe(nobodys)


async def test_a_join_keeps_its_events_and_what_the_room_calls_is_the_jobs() -> None:
    scope, context = new_scope("job")
    room = rtc.Room()
    called = asyncio.Event()

    async def join() -> tuple[Any, asyncio.Task[Any]]:
        async def listen() -> Any:
            await called.wait()
            return subscribe()

        with joining(room):
            return subscribe(), asyncio.create_task(listen())

    own, listening = await asyncio.create_task(join(), context=context)
    called.set()
    of_handler = await listening
    try:
        assert rooms_of(scope, None) == {room}
        let_go_of_streams(scope)
        assert subscribed(own)
        assert not subscribed(of_handler)
    finally:
        _ffi_client.FfiClient.instance.queue.unsubscribe(own)


class FakeRoom:
    """As much of a room as leaving needs."""

    def __init__(self, *, connected: bool, error: Exception | None = None) -> None:
        self.connected = connected
        self._error = error

    def isconnected(self) -> bool:
        return self.connected

    async def disconnect(self) -> None:
        if self._error is not None:
            raise self._error
        self.connected = False


async def test_every_room_is_left_whatever_becomes_of_another() -> None:
    stuck = FakeRoom(connected=True, error=OSError("no way out"))
    second, gone = FakeRoom(connected=True), FakeRoom(connected=False)
    rooms = cast("list[rtc.Room]", [stuck, second, gone])
    assert await leave_rooms(rooms, deadline_s=5) == ["OSError: no way out"]
    assert not second.connected
