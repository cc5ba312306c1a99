import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxray.base.channel import Channel
from voxray.base.errors import (
    PeerFailedError,
    StreamClosedError,
    StreamEndedError,
    StreamFinishedError,
)


async def settle():
    """Let every task that can run do so."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.parametrize("limit", [0, -1])
def test_needs_room_for_one(limit):
    with pytest.raises(ValueError, match="limit of at least 1"):
        Channel(limit)


async def test_gives_in_the_order_it_took():
    channel = Channel(3)
    for item in "abc":
        await channel.send(item)
    assert [await channel.receive() for _ in range(3)] == ["a", "b", "c"]


async def test_statistics_count_everything():
    channel = Channel(2)
    assert [channel.try_send(n) for n in range(3)] == [True, True, False]
    sender = asyncio.create_task(channel.send(3))
    await settle()
    seen = channel.statistics()
    assert (seen.buffered, seen.limit, seen.sent, seen.refused, seen.waiting_senders) == (
        2,
        2,
        2,
        1,
        1,
    )
    assert await channel.receive() == 0
    await sender
    seen = channel.statistics()
    assert (seen.buffered, seen.sent, seen.waiting_senders) == (2, 3, 0)


async def test_a_full_channel_holds_its_sender_back():
    channel = Channel(1)
    await channel.send(1)
    sender = asyncio.create_task(channel.send(2))
    await settle()
    assert not sender.done()
    assert await channel.receive() == 1
    await sender
    assert await channel.receive() == 2


async def test_receive_ready_takes_all_and_lets_all_senders_go():
    channel = Channel(2)
    channel.try_send(1)
    channel.try_send(2)
    senders = [asyncio.create_task(channel.send(n)) for n in (3, 4)]
    await settle()
    assert channel.receive_ready() == [1, 2]
    await asyncio.gather(*senders)
    assert channel.receive_ready() == [3, 4]
    assert channel.receive_ready() == []


@pytest.mark.parametrize(
    ("end", "error"),
    [
        (Channel.finish, StreamFinishedError),
        (lambda channel: channel.fail(PeerFailedError("gone")), PeerFailedError),
    ],
)
async def test_what_waits_is_still_received_before_the_end(end, error):
    channel = Channel(2)
    channel.try_send(1)
    end(channel)
    assert channel.ended
    assert await channel.receive() == 1
    for _ in range(2):
        with pytest.raises(error):
            await channel.receive()
    with pytest.raises(error):
        channel.try_send(2)
    with pytest.raises(error):
        await channel.send(2)


async def test_close_forgets_what_waits():
    channel = Channel(2)
    channel.try_send(1)
    channel.close()
    channel.close()
    with pytest.raises(StreamClosedError):
        await channel.receive()


async def test_the_first_end_stays():
    channel = Channel(1)
    channel.fail(PeerFailedError("gone"))
    channel.finish()
    channel.close()
    with pytest.raises(PeerFailedError):
        await channel.receive()


async def test_an_end_wakes_everybody():
    empty, full = Channel(1), Channel(1)
    full.try_send(0)
    waiting = [
        *(asyncio.create_task(empty.receive()) for _ in range(2)),
        *(asyncio.create_task(full.send(n)) for n in (1, 2)),
    ]
    await settle()
    empty.finish()
    full.close()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [StreamFinishedError] * 2 + [
        StreamClosedError
    ] * 2


@pytest.mark.parametrize("woken", [False, True])
async def test_a_cancelled_receiver_leaves_its_item_to_the_next(woken):
    channel = Channel(2)
    first = asyncio.create_task(channel.receive())
    second = asyncio.create_task(channel.receive())
    await settle()
    if woken:
        channel.try_send("item")  # Wakes the first one, which is cancelled before it runs.
        first.cancel()
    else:
        first.cancel()
        await settle()
        channel.try_send("item")
    assert await second == "item"
    assert first.cancelled() or (await asyncio.gather(first, return_exceptions=True))


async def test_a_cancelled_sender_leaves_its_place_to_the_next():
    channel = Channel(1)
    channel.try_send(0)
    first = asyncio.create_task(channel.send(1))
    second = asyncio.create_task(channel.send(2))
    await settle()
    assert await channel.receive() == 0
    first.cancel()
    await second
    assert channel.receive_ready() == [2]
    assert channel.statistics().sent == 2
    await asyncio.gather(first, return_exceptions=True)


async def test_a_cancelled_sender_is_not_counted_any_more():
    channel = Channel(1)
    channel.try_send(0)
    sender = asyncio.create_task(channel.send(1))
    await settle()
    assert channel.statistics().waiting_senders == 1
    sender.cancel()
    await settle()
    assert channel.statistics().waiting_senders == 0


class Model:
    """What a channel must do, said with a list."""

    def __init__(self, limit):
        self.limit, self.items, self.end = limit, [], None
        self.sent = self.refused = 0

    def try_send(self, item):
        if self.end:
            return self.end
        if len(self.items) >= self.limit:
            self.refused += 1
            return False
        self.items.append(item)
        self.sent += 1
        return True


operations = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers()),
        st.sampled_from([("receive",), ("take all",), ("finish",), ("close",), ("fail",)]),
    ),
    max_size=40,
)


@given(limit=st.integers(1, 4), steps=operations)
async def test_agrees_with_a_list_whatever_is_done(limit, steps):
    channel, model = Channel(limit), Model(limit)
    for step in steps:
        match step:
            case ("send", item):
                try:
                    got = channel.try_send(item)
                except StreamEndedError as error:
                    got = type(error)
                assert got == model.try_send(item)
            case ("receive",):
                if model.items:
                    assert await channel.receive() == model.items.pop(0)
                elif model.end:
                    with pytest.raises(model.end):
                        await channel.receive()
            case ("take all",):
                assert channel.receive_ready() == model.items
                model.items = []
            case ("finish",):
                channel.finish()
                model.end = model.end or StreamFinishedError
            case ("close",):
                channel.close()
                model.items, model.end = [], model.end or StreamClosedError
            case ("fail",):
                channel.fail(PeerFailedError("gone"))
                model.end = model.end or PeerFailedError
        seen = channel.statistics()
        assert (seen.buffered, seen.sent, seen.refused) == (
            len(model.items),
            model.sent,
            model.refused,
        )


@given(
    limit=st.integers(1, 3),
    senders=st.lists(st.lists(st.integers(), max_size=5), max_size=4),
    receivers=st.integers(1, 3),
    cancelled=st.sets(st.integers(0, 3)),
)
async def test_nothing_is_lost_or_doubled_between_tasks(limit, senders, receivers, cancelled):
    channel, got = Channel(limit), []

    async def send(number, items):
        for item in items:
            await channel.send((number, item))

    async def receive():
        while True:
            got.append(await channel.receive())

    sending = [asyncio.create_task(send(n, items)) for n, items in enumerate(senders)]
    receiving = [asyncio.create_task(receive()) for _ in range(receivers)]
    await asyncio.sleep(0)
    for number in cancelled & set(range(len(sending))):
        sending[number].cancel()
    await asyncio.gather(*sending, return_exceptions=True)
    channel.finish()
    await asyncio.gather(*receiving, return_exceptions=True)
    assert len(got) == channel.statistics().sent
    for number, items in enumerate(senders):
        mine = [item for sender, item in got if sender == number]
        expected = items if number not in cancelled else items[: len(mine)]
        if receivers == 1:
            assert mine == expected
        else:
            assert sorted(mine) == sorted(expected)
