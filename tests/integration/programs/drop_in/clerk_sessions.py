"""Scenes with an `AgentSession`: text only, its report, and a caller who leaves."""

from livekit.agents import (
    Agent,
    AgentSession,
    JobContext,
    llm,
    room_io,
)
from observed import note


class EchoLLM(llm.LLM):
    """Answers with what the user said."""

    def chat(self, *, chat_ctx, tools=None, conn_options=None, **_) -> llm.LLMStream:
        """Return the stream of the answer."""
        return _EchoStream(self, chat_ctx=chat_ctx, tools=tools or [], conn_options=conn_options)


class _EchoStream(llm.LLMStream):
    async def _run(self) -> None:
        words = next(item for item in reversed(self.chat_ctx.items) if item.type == "message")
        self._event_ch.send_nowait(
            llm.ChatChunk(
                id="echo",
                delta=llm.ChoiceDelta(role="assistant", content=f"you wrote {words.text_content}"),
            )
        )


async def _start(ctx: JobContext, **options: bool) -> AgentSession:
    room = ctx.job.room.name
    session = AgentSession(llm=EchoLLM())

    @session.on("conversation_item_added")
    def _added(event) -> None:
        if event.item.type == "message":
            note(room, "item", [event.item.role, event.item.text_content])

    @session.on("close")
    def _closed(event) -> None:
        note(room, "session closed", [str(event.reason), event.error])

    written = room_io.RoomOptions(audio_input=False, audio_output=False, **options)
    await session.start(
        Agent(instructions="Echo."), room=ctx.room, room_options=written, record=False
    )
    note(room, "primary", ctx.primary_session is session)
    return session


async def written(ctx: JobContext) -> None:
    """A session without audio: the caller writes on lk.chat."""
    await _start(ctx)


async def report(ctx: JobContext) -> None:
    """Say something, tag it, and end: the report is made as the session ends."""
    session = await _start(ctx)
    await session.generate_reply(user_input="how are you")
    ctx.tagger.add("vip")
    ctx.shutdown("reported")


async def caller_leaves(ctx: JobContext) -> None:
    """The session closes when its caller leaves."""
    await _start(ctx)


async def caller_leaves_and_room_goes(ctx: JobContext) -> None:
    """The room is deleted with the session."""
    await _start(ctx, delete_room_on_close=True)


def at_session_end(ctx: JobContext) -> None:
    """Make the report, if there was a session."""
    room = ctx.job.room.name
    try:
        made = ctx.make_session_report()
    except RuntimeError as error:
        note(room, "no report", str(error))
        return
    told = made.to_dict()
    note(
        room,
        "report",
        {
            "keys": sorted(told),
            "room": made.room,
            "agent": made.agent_name,
            "tags": made.tags,
            "items": [
                [item.role, item.text_content]
                for item in made.chat_history.items
                if item.type == "message"
            ],
            "events": sorted({event.type for event in made.events}),
            "duration": made.duration > 0,
        },
    )


PLAYS = {
    "written": written,
    "report": report,
    "caller-leaves": caller_leaves,
    "caller-leaves-and-room-goes": caller_leaves_and_room_goes,
}
