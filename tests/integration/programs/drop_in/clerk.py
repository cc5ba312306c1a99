"""An `AgentServer` for explicit dispatch; the room's name says which scene its job plays."""

import math
import os
import sys

import clerk_rooms
import clerk_sessions
import clerk_shutdown
from livekit.agents import AgentServer, JobContext, JobProcess, JobRequest, cli
from observed import note

PLAYS = {**clerk_rooms.PLAYS, **clerk_sessions.PLAYS, **clerk_shutdown.PLAYS}

server = AgentServer(
    # Free at any load: what is compared is not how a busy machine is judged.
    load_fnc=lambda: 0.0,
    load_threshold=math.inf,
    num_idle_processes=2,
    # Stock kills a process that is only slow: this machine may be.
    shutdown_process_timeout=60.0,
    session_end_timeout=1.0,
    drain_timeout=3,
    initialize_process_timeout=60.0,
    port=int(os.environ.get("DROP_IN_PORT", "0")),
    host="127.0.0.1",
)


def prewarm(proc: JobProcess) -> None:
    """Leave something for every job."""
    proc.userdata["model"] = "loaded"


server.setup_fnc = prewarm


@server.on("worker_started")
def _started() -> None:
    note("worker", "started")


@server.on("worker_registered")
def _registered(worker_id: str, info: object) -> None:
    note("worker", "registered", [worker_id, server.id == worker_id, type(info).__name__])


async def on_request(request: JobRequest) -> None:
    """Answer as the scene wants it."""
    room = request.room.name
    note(
        room,
        "asked",
        {
            "id": request.id == request.job.id,
            "agent_name": request.agent_name,
            "metadata": request.job.metadata,
            "dispatch": bool(request.job.dispatch_id),
            "type": request.job.type,
            "publisher": request.publisher.identity if request.publisher else None,
            "room_metadata": request.room.metadata,
        },
    )
    match room:
        case "accept":
            await request.accept(
                name="Ada",
                identity="ada",
                metadata="about ada",
                attributes={"desk": "7", "floor": "2"},
            )
        case "reject":
            await request.reject()
        case "reject-and-terminate":
            await request.reject(terminate=True)
        case "reject-and-keep":
            await request.reject(terminate=False)
        case "no-answer":
            return
        case "request-raises":
            raise LookupError("no such desk")
        case _:
            await request.accept()


async def on_session_end(ctx: JobContext) -> None:
    """Say so, and look at the session if there was one."""
    note(ctx.job.room.name, "session end")
    await clerk_shutdown.at_session_end(ctx)
    clerk_sessions.at_session_end(ctx)


@server.rtc_session(agent_name="clerk", on_request=on_request, on_session_end=on_session_end)
async def entrypoint(ctx: JobContext) -> None:
    """Play the scene of the room."""
    room = ctx.job.room.name

    async def closing(reason: str) -> None:
        note(room, "closing", reason)

    ctx.add_shutdown_callback(closing)
    await PLAYS.get(room, clerk_rooms.stay)(ctx)


if __name__ == "__main__":
    sys.exit(cli.run_app(server))
