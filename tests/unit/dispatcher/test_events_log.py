"""The log of events: cursors, pages, turns of a room, and long polls."""

import asyncio

from voxray.base.ids import HostId, JobId
from voxray.dispatcher.events_log import PAGE_LIMIT, EventsLog
from voxray.observability.events import BatchDone, HostReady, HostStarting, LoopLag, TurnDone


class FixedClock:
    def monotonic(self):
        return 5.0

    def wall(self):
        return 1000.5


def host(number):
    return HostStarting(host_id=HostId(str(number)))


def turn(room, number):
    return TurnDone(
        job_id=JobId("AJ"),
        room=room,
        agent="desk",
        number=number,
        stages={"e2e": 0.5},
        tools=("t",),
    )


def cursors(page):
    return [record.cursor for record in page.records]


def test_pages_go_on_from_their_cursor():
    log = EventsLog()
    assert (log.events().cursor, log.events().records) == (0, ())
    for number in range(3):
        log.emit(host(number))
    page = log.events()
    assert (cursors(page), page.cursor) == ([1, 2, 3], 3)
    assert cursors(log.events(2)) == [3]
    assert log.events(3).cursor == 3


def test_only_the_newest_are_kept():
    log = EventsLog(events_limit=2)
    for number in range(5):
        log.emit(host(number))
    assert cursors(log.events()) == [4, 5]
    assert cursors(log.events(1)) == [4, 5]


def test_a_page_has_a_limit_and_leads_to_the_next():
    log = EventsLog()
    for number in range(PAGE_LIMIT + 2):
        log.emit(host(number))
    first = log.events()
    assert (len(first.records), first.cursor) == (PAGE_LIMIT, PAGE_LIMIT)
    assert cursors(log.events(first.cursor)) == [PAGE_LIMIT + 1, PAGE_LIMIT + 2]


def test_a_cursor_of_an_earlier_life_starts_over():
    log = EventsLog()
    log.emit(host(1))
    assert cursors(log.events(700)) == [1]
    assert cursors(log.events(-1)) == [1]


def test_an_event_as_json():
    log = EventsLog(clock=FixedClock())
    log.emit(HostReady(host_id=HostId("h"), seconds=1.5))
    assert [record.to_json() for record in log.events().records] == [
        {"type": "HostReady", "cursor": 1, "seen_at": 1000.5, "host_id": "h", "seconds": 1.5}
    ]


def test_turns_of_a_room_survive_a_burst_of_events():
    log = EventsLog(events_limit=2)
    log.emit(turn("a", 1))
    log.emit(turn("b", 1))
    for number in range(5):
        log.emit(host(number))
    log.emit(turn("a", 2))
    assert [record.event.number for record in log.turns("a")] == [1, 2]
    assert [record.event.room for record in log.turns()] == ["a", "b", "a"]
    assert [record.event.number for record in log.turns("a", after=1)] == [2]
    assert log.turns("c") == []
    assert log.turns("a")[0].to_json()["tools"] == ("t",)


def test_measurements_are_no_news():
    log = EventsLog()
    log.emit(LoopLag(process="dispatcher", seconds=0.1))
    log.emit(BatchDone(engine="e", size=1, queue_s=0, service_s=0))
    assert log.events().records == ()


async def test_a_long_poll_ends_with_the_next_event():
    log = EventsLog()
    log.emit(host(1))
    waiting = [asyncio.create_task(log.wait(1, 60)) for _ in range(3)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    log.emit(host(2))
    assert [cursors(await task) for task in waiting] == [[2]] * 3


async def test_a_long_poll_gathers_what_follows_its_first_event():
    log = EventsLog()
    waiting = asyncio.create_task(log.wait(0, 60))
    for number in (1, 2, 3):
        await asyncio.sleep(0)
        log.emit(host(number))
    assert cursors(await waiting) == [1, 2, 3]


async def test_close_ends_a_long_poll_that_gathers():
    log = EventsLog()
    waiting = asyncio.create_task(log.wait(0, 60))
    await asyncio.sleep(0)
    log.emit(host(1))
    log.close()
    assert cursors(await waiting) == [1]


async def test_a_long_poll_does_not_wait_for_what_is_there():
    log = EventsLog()
    log.emit(host(1))
    assert cursors(await log.wait(0, 60)) == [1]
    assert cursors(await log.wait(9, 60)) == [1]


async def test_a_long_poll_has_an_end_without_events():
    page = await EventsLog().wait(0, 0.001)
    assert (page.cursor, page.records) == (0, ())


async def test_close_lets_everybody_go():
    log = EventsLog()
    waiting = asyncio.create_task(log.wait(0, 60))
    await asyncio.sleep(0)
    log.close()
    assert (await waiting).records == ()
    assert (await log.wait(0, 60)).records == ()
