"""An agent for each participant, or for each who publishes; it leaves when its participant does."""

import os
from types import SimpleNamespace

from livekit import rtc
from livekit.agents import AgentServer, JobContext, JobRequest, WorkerType
from livekit.protocol.agent import JobType

# LiveKit has jobs of participants; livekit-agents has no name for them.
EACH = SimpleNamespace(value=JobType.JT_PARTICIPANT)
TYPE = WorkerType.PUBLISHER if os.environ["ATTENDS_TO"] == "publishers" else EACH
server = AgentServer()


async def accept(request: JobRequest) -> None:
    await request.accept(attributes={"attends": request.job.participant.identity})


@server.rtc_session(type=TYPE, on_request=accept)
async def entrypoint(ctx: JobContext) -> None:
    mine = ctx.job.participant.identity

    def left(participant: rtc.RemoteParticipant) -> None:
        if participant.identity == mine:
            ctx.shutdown("its participant left")

    ctx.room.on("participant_disconnected", left)
    await ctx.connect()
