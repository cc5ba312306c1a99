"""The probe sees a blocked loop, and only that."""

import asyncio
import time

from voxray.observability.loop_lag import LoopLagProbe


async def test_a_blocked_loop_is_measured() -> None:
    seen: asyncio.Queue[float] = asyncio.Queue()
    probe = LoopLagProbe(seen.put_nowait, interval_s=0.01)
    probe.stop()
    probe.start()
    probe.start()
    await seen.get()
    time.sleep(0.2)  # noqa: ASYNC251 - the blocked loop is what is measured
    lag = await seen.get()
    probe.stop()
    assert lag >= 0.15
