"""The stock livekit-agents worker in a process of its own, in the place of a deployment."""

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass

_START_TIMEOUT_S = 60
_END_TIMEOUT_S = 20


@dataclass(frozen=True)
class StockWorker:
    """What the demo asks of a deployment; a stock worker has nothing of it."""

    pid: int
    api_url: str | None = None
    api_token: str = ""
    metrics_url: str | None = None
    dashboard_url: str | None = None


@asynccontextmanager
async def stock_worker(program, settings, say):
    """Run a program with `python PROGRAM dev` while the context is open."""
    livekit = settings.livekit
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(program),
        "dev",
        "--no-reload",
        env={
            **os.environ,
            "LIVEKIT_URL": livekit.url,
            "LIVEKIT_API_KEY": livekit.api_key,
            "LIVEKIT_API_SECRET": livekit.api_secret.get_secret_value(),
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    lines = []

    async def read():
        async for line in process.stdout:
            lines.append(line.decode(errors="replace"))
            if "registered worker" in lines[-1]:
                registered.set()

    registered = asyncio.Event()
    reader = asyncio.create_task(read())
    try:
        say("waiting for the worker")
        try:
            await asyncio.wait_for(registered.wait(), _START_TIMEOUT_S)
        except TimeoutError:
            raise AssertionError(f"no worker registered: {''.join(lines)}") from None
        yield StockWorker(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), _END_TIMEOUT_S)
        except TimeoutError:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        await reader
