"""Waiting for a state."""

import asyncio

from voxray.loadtest.waiting import Changes


async def test_state_that_is_there_needs_no_wait():
    assert await Changes().until(lambda: True, 0)


async def test_woken_by_a_change():
    changes = Changes()
    state = []
    waiting = asyncio.create_task(changes.until(lambda: len(state) == 2, 60))
    for _ in range(2):
        await asyncio.sleep(0)
        state.append(1)
        changes.notify()
    assert await waiting


async def test_limit():
    assert not await Changes().until(lambda: False, 0.001)
    assert not await Changes().until(lambda: False, -1)


async def test_cancelled_waiter_is_forgotten():
    changes = Changes()
    waiting = asyncio.create_task(changes.until(lambda: False, 60))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    assert waiting.cancelled()
    assert not changes._waiters
