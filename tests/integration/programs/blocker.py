"""A program that blocks its event loop for as long as its test wants."""

import threading

from livekit.agents import AgentServer, JobContext, JobProcess

blocked = threading.Event()
released = threading.Event()
userdata: dict = {}

server = AgentServer(load_fnc=lambda server: len(server.active_jobs) / 4)


def prewarm(proc: JobProcess) -> None:
    """Leave something for the jobs."""
    proc.userdata["ready"] = True


server.setup_fnc = prewarm


@server.rtc_session()
async def entrypoint(ctx: JobContext) -> None:
    """Block, then end."""
    userdata.update(ctx.proc.userdata)
    blocked.set()
    released.wait()
    ctx.shutdown("released")
