"""An agent that joins and says nothing; it leaves rooms called `brief...` at once, on purpose."""

from livekit.agents import AgentServer, JobContext

server = AgentServer()


@server.rtc_session()
async def entrypoint(ctx: JobContext) -> None:
    await ctx.connect()
    if ctx.room.name.startswith("brief"):
        ctx.shutdown("said enough")
