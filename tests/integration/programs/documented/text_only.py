"""A session without audio, with a callback for text input of its own."""

from livekit.agents import Agent, AgentServer, AgentSession, JobContext, cli, room_io
from local_models import ScriptedLLM

server = AgentServer()


async def custom_text_input_cb(session: AgentSession, event: room_io.TextInputEvent) -> None:
    if event.text.startswith("/shout "):
        await session.interrupt()
        session.say(event.text.removeprefix("/shout ").upper())
        return
    await session.interrupt()
    session.generate_reply(user_input=f"{event.text} from {event.participant.identity}")


@server.rtc_session()
async def entrypoint(ctx: JobContext):
    session = AgentSession(llm=ScriptedLLM())
    await session.start(
        agent=Agent(instructions="You are a helpful text assistant."),
        room=ctx.room,
        room_options=room_io.RoomOptions(
            text_input=room_io.TextInputOptions(text_input_cb=custom_text_input_cb),
            audio_input=False,
            audio_output=False,
        ),
    )


if __name__ == "__main__":
    cli.run_app(server)
