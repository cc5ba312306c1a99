"""A whole inference replica in a process of its own, which a test can kill.

Run as `python -m tests.fakes.replica_process [ENGINE...]`; prints its port, then serves until it
is killed. Without names its engines are scripted.
"""

import asyncio
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from voxray.actors.grpc_server import InferenceServer
from voxray.base.ids import ReplicaId
from voxray.base.timing import SystemClock
from voxray.observability.events import NullSink
from voxray.pipelines.engine_host import EngineHost
from voxray.pipelines.engines.base import EngineInfo, EngineKind
from voxray.pipelines.engines.scripted import ScriptedEngine
from voxray.pipelines.routing import Replica

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class NamedEngine(ScriptedEngine):
    """A scripted engine under another name, so that one replica can have several."""

    name: str = "scripted"

    @property
    def info(self) -> EngineInfo:
        return replace(super().info, name=self.name)


def engines() -> list[NamedEngine]:
    return [
        NamedEngine(name="listener", kind=EngineKind.STT),
        NamedEngine(name="speaker", kind=EngineKind.TTS),
    ]


def replica_at(port: int, number: int = 0, names=("listener", "speaker")) -> Replica:
    return Replica(
        replica_id=ReplicaId(f"speech-{number}"),
        group="speech",
        engines=tuple(names),
        address=f"127.0.0.1:{port}",
        node="node",
    )


@asynccontextmanager
async def replica_here(
    number: int = 0,
    *,
    hosted=None,
    sink=None,
    token=None,
    max_streams=64,
    **options,
):
    """A replica in this process; yields its server, its engine host and its announcement."""
    host = EngineHost(
        engines() if hosted is None else hosted,
        max_streams=max_streams,
        latency_budget_ms=1.0,
        max_batch=16,
        sink=sink or NullSink(),
        clock=SystemClock(),
    )
    await host.start()
    server = InferenceServer(
        host, replica_id=ReplicaId(f"speech-{number}"), token=token, sink=sink, **options
    )
    port = await server.start("127.0.0.1", 0)
    try:
        names = [info.name for info in host.infos()]
        yield server, host, replica_at(port, number, names)
    finally:
        await server.aclose()
        await host.aclose()


@asynccontextmanager
async def replica_process(number: int = 0, hosted: tuple[str, ...] = ()):
    """A replica in its own process; yields the process and its announcement."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.fakes.replica_process",
        *hosted,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        port = int(await process.stdout.readline())
        yield process, replica_at(port, number, hosted or ("listener", "speaker"))
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _serve() -> None:
    async with replica_here(hosted=sys.argv[1:] or None) as (_, _, replica):
        sys.stdout.write(replica.address.rsplit(":", 1)[1] + "\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve())
