"""Several sessions in one room: each participant has a transcriber of its own."""

import asyncio

from livekit import rtc
from livekit.agents import (
    Agent,
    AgentServer,
    AgentSession,
    ChatContext,
    ChatMessage,
    JobContext,
    StopResponse,
    cli,
    room_io,
)
from local_models import GRAMMAR

import voxray


class Transcriber(Agent):
    def __init__(self) -> None:
        super().__init__(instructions="not needed", stt=voxray.STT(grammar=GRAMMAR))

    async def on_user_turn_completed(self, chat_ctx: ChatContext, new_message: ChatMessage) -> None:
        raise StopResponse()


class MultiUserTranscriber:
    def __init__(self, ctx: JobContext) -> None:
        self.ctx = ctx
        self._sessions: dict[str, AgentSession] = {}
        self._tasks: set[asyncio.Task] = set()

    def start(self) -> None:
        self.ctx.room.on("participant_connected", self.on_participant_connected)
        self.ctx.room.on("participant_disconnected", self.on_participant_disconnected)
        for participant in self.ctx.room.remote_participants.values():
            self.on_participant_connected(participant)

    async def aclose(self) -> None:
        await asyncio.gather(*[session.aclose() for session in self._sessions.values()])

    def on_participant_connected(self, participant: rtc.RemoteParticipant) -> None:
        if participant.identity not in self._sessions:
            self._spawn(self._start_session(participant))

    def on_participant_disconnected(self, participant: rtc.RemoteParticipant) -> None:
        if session := self._sessions.pop(participant.identity, None):
            self._spawn(session.aclose())

    def _spawn(self, coro) -> None:
        task = asyncio.create_task(coro)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _start_session(self, participant: rtc.RemoteParticipant) -> None:
        session = AgentSession(vad=self.ctx.proc.userdata.get("vad") or voxray.VAD.load())
        self._sessions[participant.identity] = session
        await session.start(
            agent=Transcriber(),
            room=self.ctx.room,
            room_options=room_io.RoomOptions(
                text_input=False,
                audio_output=False,
                participant_identity=participant.identity,
            ),
        )
        await self.ctx.room.local_participant.set_attributes({participant.identity: "transcribed"})


server = AgentServer()


@server.rtc_session()
async def entrypoint(ctx: JobContext):
    await ctx.connect()
    transcriber = MultiUserTranscriber(ctx)
    transcriber.start()
    ctx.add_shutdown_callback(transcriber.aclose)


if __name__ == "__main__":
    cli.run_app(server)
