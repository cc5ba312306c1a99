"""All programs of `documented/` in one app: a job's metadata names the one that serves it."""

import importlib
import sys
from pathlib import Path

from livekit.agents import AgentServer, JobContext, cli

FOLDER = Path(__file__).with_name("documented")
sys.path.insert(0, str(FOLDER))
PROGRAMS = {
    path.stem: importlib.import_module(path.stem)
    for path in FOLDER.glob("*.py")
    if path.stem != "local_models"
}

server = AgentServer()


@server.rtc_session(agent_name="documented")
async def entrypoint(ctx: JobContext) -> None:
    await PROGRAMS[ctx.job.metadata].entrypoint(ctx)


if __name__ == "__main__":
    cli.run_app(server)
