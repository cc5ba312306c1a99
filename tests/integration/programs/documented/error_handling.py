"""The error event: a model fails, the program says so and goes on; at last the session closes."""

import json
from pathlib import Path

from livekit.agents import (
    Agent,
    AgentServer,
    AgentSession,
    APIStatusError,
    CloseEvent,
    ErrorEvent,
    JobContext,
    cli,
)
from local_models import GRAMMAR, ScriptedLLM

import voxray

server = AgentServer()


@server.rtc_session()
async def entrypoint(ctx: JobContext):
    session = AgentSession(
        vad=voxray.VAD.load(),
        stt=voxray.STT(grammar=GRAMMAR),
        llm=ScriptedLLM(
            {
                "break": APIStatusError("no such model", status_code=404, retryable=False),
                "collapse": APIStatusError("no such account", status_code=401, retryable=False),
            }
        ),
        tts=voxray.TTS(),
    )

    @session.on("error")
    def on_error(ev: ErrorEvent) -> None:
        if ev.error.recoverable:
            return
        if "account" in str(ev.error.error):
            session.shutdown(drain=False)
            return
        # Keep the session alive, and tell the user.
        ev.error.recoverable = True
        session.say("i have trouble connecting right now.", allow_interruptions=False)

    @session.on("close")
    def on_close(ev: CloseEvent) -> None:
        path = Path.home() / f"close_{ctx.room.name}.json"
        path.write_text(json.dumps({"reason": ev.reason}))
        ctx.shutdown(reason="session closed")

    await session.start(agent=Agent(instructions="Talk."), room=ctx.room)


if __name__ == "__main__":
    cli.run_app(server)
