import asyncio

import pytest

from tests.fakes.inference_client import FakeInferenceClient
from voxray.base.errors import PeerFailedError, StreamClosedError
from voxray.pipelines.engines.base import ProbabilityOutput
from voxray.pipelines.plugins.exchange import exchange, opened, outputs


async def forever() -> None:
    await asyncio.Event().wait()


async def fail(error: Exception) -> None:
    raise error


async def test_the_listener_says_why_a_stream_ended() -> None:
    told = asyncio.Event()

    async def feed() -> None:
        told.set()
        raise StreamClosedError("no input is taken")

    async def listen() -> None:
        await told.wait()
        await asyncio.sleep(0)
        raise PeerFailedError("replica speech-0 broke")

    with pytest.raises(PeerFailedError, match="speech-0"):
        await exchange("test", feed(), listen())


async def test_a_feeder_with_a_bug_is_not_waited_for() -> None:
    with pytest.raises(ZeroDivisionError):
        await exchange("test", fail(ZeroDivisionError()), forever())
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_listener_that_is_done_ends_the_feeder() -> None:
    await exchange("test", forever(), asyncio.sleep(0))
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_cancelled_exchange_leaves_no_task() -> None:
    exchanging = asyncio.create_task(exchange("test", forever(), forever()))
    await asyncio.sleep(0)
    exchanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await exchanging
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_outputs_end_when_all_was_said(client: FakeInferenceClient) -> None:
    async with opened("vad", {"option": 1}, 10.0) as stream:
        fake = await client.stream()
        fake.emit(ProbabilityOutput(512, 0.5, 0.0))
        fake.finish()
        assert len([output async for output in outputs(stream)]) == 1
    assert fake.closed
    assert fake.options == {"option": 1}
