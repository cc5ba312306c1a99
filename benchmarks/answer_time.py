"""How fast a job request is answered under a burst: voxray beside the stock worker.

A server of our own speaks LiveKit's worker protocol and offers many jobs at once, as fast as the
websocket takes them; what counts is the time from sending a request to having read its answer.
LiveKit drops a request after three seconds, and a slow answer is a room without its agent. No job
is assigned: starting jobs costs both systems time that other benchmarks measure.
"""

import argparse
import asyncio
import json
import secrets
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web
from livekit.protocol import agent

from benchmarks.systems import RESULTS, System, machine, running
from voxray.loadtest.access import LiveKitAccess
from voxray.loadtest.report import percentile

PROGRAM = Path(__file__).resolve().parent / "programs" / "answering.py"
_PATIENCE_S = 30.0
_PAUSE_S = 2.0


class OfferServer:
    """The worker endpoint of a LiveKit server, and nothing else of it."""

    def __init__(self) -> None:
        self.port = 0
        self._worker: asyncio.Future[web.WebSocketResponse] = (
            asyncio.get_running_loop().create_future()
        )
        self._sent_s: dict[str, float] = {}
        self._answers: asyncio.Queue[tuple[float, bool]] = asyncio.Queue()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Listen on loopback while the context is open."""
        app = web.Application()
        app.router.add_get("/agent", self._serve)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = int(runner.addresses[0][1])
        try:
            yield
        finally:
            await runner.cleanup()

    async def burst(self, count: int) -> tuple[list[float], int]:
        """Offer `count` jobs at once; return the seconds to each answer, and how many said yes."""
        async with asyncio.timeout(_PATIENCE_S):
            ws = await asyncio.shield(self._worker)
            for _ in range(count):
                job_id = f"AJ_{secrets.token_hex(6)}"
                job = agent.Job(id=job_id, room={"name": f"room-{job_id}", "sid": f"RM_{job_id}"})
                message = agent.ServerMessage(availability={"job": job})
                self._sent_s[job_id] = time.perf_counter()
                await ws.send_bytes(message.SerializeToString())
            answers = [await self._answers.get() for _ in range(count)]
        return [seconds for seconds, _ in answers], sum(yes for _, yes in answers)

    async def _serve(self, request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        async for message in ws:
            if message.type is WSMsgType.BINARY:
                await self._take(ws, agent.WorkerMessage.FromString(message.data))
        return ws

    async def _take(self, ws: web.WebSocketResponse, message: agent.WorkerMessage) -> None:
        match message.WhichOneof("message"):
            case "availability":
                seconds = time.perf_counter() - self._sent_s.pop(message.availability.job_id)
                self._answers.put_nowait((seconds, message.availability.available))
            case "register":
                answer = agent.ServerMessage(register={"worker_id": "AW_bench"})
                await ws.send_bytes(answer.SerializeToString())
                if not self._worker.done():
                    self._worker.set_result(ws)
            case "ping":
                pong = {"last_timestamp": message.ping.timestamp}
                await ws.send_bytes(agent.ServerMessage(pong=pong).SerializeToString())


def systems(burst: int) -> tuple[System, ...]:
    """Return the systems, each with slots for several bursts that are never assigned."""
    return (
        System(
            name="stock-thread",
            command=(sys.executable, str(PROGRAM), "start"),
            environment={},
            ready="registered worker",
        ),
        System(
            name="voxray",
            command=(sys.executable, "-m", "voxray", "start", str(PROGRAM), "--http-port", "0"),
            environment={
                "VOXRAY_RAY__DASHBOARD": "false",
                "VOXRAY_HOSTS__SESSIONS_PER_HOST": str(min(1000, 5 * burst)),
            },
            ready="Ctrl-C drains",
        ),
    )


async def measure(system: System, *, asks: bool, burst: int, repeat: int) -> dict[str, Any]:
    """Run bursts against one system; the first one warms it up and does not count."""
    server = OfferServer()
    environment = {**system.environment, "ANSWERING_ASKS": "1" if asks else "0"}
    named = System(
        name=system.name, command=system.command, environment=environment, ready=system.ready
    )
    async with server.open():
        access = LiveKitAccess(
            url=f"ws://127.0.0.1:{server.port}", api_key="APIbench", api_secret="s" * 32
        )
        async with running(named, access):
            await server.burst(10)
            bursts = []
            for _ in range(repeat):
                bursts.append(await server.burst(burst))
                await asyncio.sleep(_PAUSE_S)
    seconds = [each for answers, _ in bursts for each in answers]
    return {
        "system": system.name,
        "request_fnc": asks,
        "offers": len(seconds),
        "accepted": sum(yes for _, yes in bursts),
        "p50_ms": round(1000 * statistics.median(seconds), 2),
        "p99_ms": round(1000 * percentile(seconds, 99), 2),
        "max_ms": round(1000 * max(seconds), 2),
        "p99_ms_of_bursts": [round(1000 * percentile(each, 99), 2) for each, _ in bursts],
    }


async def main() -> None:
    """Run all systems with and without a `request_fnc`, in turns, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--burst", type=int, default=200)
    parser.add_argument("--repeat", type=int, default=4)
    parser.add_argument("--only", nargs="*", default=[], help="names of systems to run")
    parser.add_argument("--output", type=Path, default=RESULTS / "answer_time.json")
    arguments = parser.parse_args()
    runs = []
    for asks in (False, True):
        for system in systems(arguments.burst):
            if not arguments.only or system.name in arguments.only:
                run = await measure(
                    system, asks=asks, burst=arguments.burst, repeat=arguments.repeat
                )
                runs.append(run)
                print(json.dumps(run), flush=True)
    report = {"machine": machine(), "burst": arguments.burst, "runs": runs}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
