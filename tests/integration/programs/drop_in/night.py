"""Everything from the environment: name, deployment, log level; and a short time to shut down."""

import asyncio
import logging
import math
import os

from livekit.agents import AgentServer, JobContext, cli
from observed import note

logger = logging.getLogger("night")

server = AgentServer(
    load_fnc=lambda: 0.0,
    load_threshold=math.inf,
    num_idle_processes=1,
    shutdown_process_timeout=3.0,
    initialize_process_timeout=60.0,
    host="127.0.0.1",
    port=int(os.environ.get("DROP_IN_PORT", "0")),
)


@server.on("worker_registered")
def _registered(*_: object) -> None:
    note("worker", "registered")


@server.rtc_session(agent_name="day")
async def entrypoint(ctx: JobContext) -> None:
    """Tell what came from where; then, where the scene wants it, never end."""
    room = ctx.job.room.name
    note(room, "job", [ctx.job.agent_name, ctx.job.deployment, ctx.job.metadata])
    names = ("LIVEKIT_AGENT_DEPLOYMENT", "LIVEKIT_WORKER_TOKEN", "LIVEKIT_AGENT_NAME_OVERRIDE")
    note(room, "environment", [os.environ.get(name) for name in names])
    logger.info("not said")
    logger.warning("said aloud in %s", room)

    async def never() -> None:
        note(room, "callback begins")
        await asyncio.Event().wait()

    if room == "stuck-callback":
        ctx.add_shutdown_callback(never)
    await ctx.connect()
    note(room, "ready")


if __name__ == "__main__":
    cli.run_app(server)
