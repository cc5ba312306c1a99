"""A program that takes every job; ANSWERING_ASKS=1 gives it a `request_fnc` of its own."""

import math
import os

from livekit.agents import AgentServer, JobContext, JobExecutorType, JobRequest, cli

# The stock worker turns jobs away by CPU load: the limit is lifted, its speed is what counts here.
server = AgentServer(job_executor_type=JobExecutorType.THREAD, load_threshold=math.inf)


async def decide(request: JobRequest) -> None:
    await request.accept(name="Agent", identity=f"agent-{request.id}")


@server.rtc_session(on_request=decide if os.environ.get("ANSWERING_ASKS") == "1" else None)
async def entrypoint(ctx: JobContext) -> None:
    await ctx.connect()


if __name__ == "__main__":
    cli.run_app(server)
