"""The example of `voxray.pipeline`, with the scripted model in place of a server's."""

import importlib.util
from pathlib import Path

from livekit.agents import AgentServer, JobContext, cli
from local_models import ScriptedLLM

# Its folder has an `agent.py`, as other examples have.
_path = Path(__file__).parents[4] / "examples" / "pipelines" / "agent.py"
_spec = importlib.util.spec_from_file_location("pipelines_example", _path)
assert _spec is not None
assert _spec.loader is not None
example = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(example)

server = AgentServer()


@server.rtc_session()
async def entrypoint(ctx: JobContext):
    await ctx.connect()
    session = example.new_session(ScriptedLLM({"coffee": "two coffees, coming at once."}))
    await session.start(room=ctx.room, agent=example.Waiter())


if __name__ == "__main__":
    cli.run_app(server)
