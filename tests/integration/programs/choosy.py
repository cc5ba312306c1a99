"""An agent that rejects some calls, leaves others on purpose, and tells what it was asked with."""

from livekit.agents import Agent, AgentServer, AgentSession, JobContext, JobRequest

server = AgentServer()


async def choose(request: JobRequest) -> None:
    room = request.room.name
    if room.startswith("rejected"):
        await request.reject(terminate=room.startswith("rejected-for-all"))
        return
    asked = {"metadata": request.job.metadata, **request.job.attributes}
    await request.accept(attributes=asked)


@server.rtc_session(on_request=choose)
async def entrypoint(ctx: JobContext) -> None:
    if ctx.room.name.startswith("session"):
        session = AgentSession()
        session.on("close", lambda _: ctx.shutdown("the session is over"))
        await session.start(Agent(instructions=""), room=ctx.room)
        session.shutdown()
        return
    await ctx.connect()
    if ctx.room.name.startswith("left"):
        ctx.shutdown("said enough")
