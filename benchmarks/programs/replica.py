"""An inference replica without Ray: `replica.py CORE BUDGET_MS ENGINE...` prints its port."""

import asyncio
import sys

from benchmarks.pinning import pin
from voxray.actors.grpc_server import InferenceServer
from voxray.base.ids import ReplicaId
from voxray.base.timing import SystemClock
from voxray.observability.events import NullSink
from voxray.pipelines.engine_host import EngineHost


async def serve(budget_ms: float, engines: list[str]) -> None:
    """Serve until the process is ended."""
    host = EngineHost(
        engines,
        max_streams=4096,
        latency_budget_ms=budget_ms,
        max_batch=256,
        sink=NullSink(),
        clock=SystemClock(),
    )
    await host.start()
    server = InferenceServer(host, replica_id=ReplicaId("bench-0"), max_streams_per_host=4096)
    print(await server.start("127.0.0.1", 0), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    pin(int(sys.argv[1]))
    asyncio.run(serve(float(sys.argv[2]), sys.argv[3:]))
