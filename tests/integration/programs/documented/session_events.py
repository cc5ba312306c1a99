"""Every event of a session, told to the frontend as it comes; the last one goes to a file."""

import asyncio
import json
from pathlib import Path

from livekit.agents import (
    Agent,
    AgentServer,
    AgentSession,
    AgentStateChangedEvent,
    CloseEvent,
    ConversationItemAddedEvent,
    FunctionToolsExecutedEvent,
    JobContext,
    MetricsCollectedEvent,
    RunContext,
    SessionUsageUpdatedEvent,
    SpeechCreatedEvent,
    UserInputTranscribedEvent,
    UserStateChangedEvent,
    cli,
    function_tool,
)
from local_models import GRAMMAR, Call, ScriptedLLM

import voxray


@function_tool()
async def lookup_weather(context: RunContext, location: str) -> str:
    """Look up weather information for a given location."""
    return f"it is sunny in {location}"


server = AgentServer()


@server.rtc_session()
async def entrypoint(ctx: JobContext):
    session = AgentSession(
        vad=voxray.VAD.load(),
        stt=voxray.STT(grammar=GRAMMAR),
        llm=ScriptedLLM({"nearest station": Call("lookup_weather", {"location": "rome"})}),
        tts=voxray.TTS(),
    )
    tasks: set[asyncio.Task] = set()

    def tell(**event) -> None:
        line = json.dumps(event)
        task = asyncio.create_task(ctx.room.local_participant.send_text(line, topic="events"))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    @session.on("user_input_transcribed")
    def on_transcribed(ev: UserInputTranscribedEvent) -> None:
        tell(type=ev.type, transcript=ev.transcript, final=ev.is_final)

    @session.on("conversation_item_added")
    def on_item(ev: ConversationItemAddedEvent) -> None:
        if ev.item.type == "message":
            tell(type=ev.type, role=ev.item.role, text=ev.item.text_content, turn=ev.item.metrics)

    @session.on("function_tools_executed")
    def on_tools(ev: FunctionToolsExecutedEvent) -> None:
        tell(type=ev.type, tools={call.name: out.output for call, out in ev.zipped()})

    @session.on("agent_state_changed")
    def on_agent_state(ev: AgentStateChangedEvent) -> None:
        tell(type=ev.type, new_state=ev.new_state)

    @session.on("user_state_changed")
    def on_user_state(ev: UserStateChangedEvent) -> None:
        tell(type=ev.type, new_state=ev.new_state)

    @session.on("speech_created")
    def on_speech(ev: SpeechCreatedEvent) -> None:
        tell(type=ev.type, source=ev.source, user_initiated=ev.user_initiated)

    @session.on("metrics_collected")
    def on_metrics(ev: MetricsCollectedEvent) -> None:
        tell(type=ev.type, metrics=ev.metrics.type)

    @session.on("session_usage_updated")
    def on_usage(ev: SessionUsageUpdatedEvent) -> None:
        tell(type=ev.type, models=[usage.type for usage in ev.usage.model_usage])

    @session.on("close")
    def on_close(ev: CloseEvent) -> None:
        path = Path.home() / f"close_{ctx.room.name}.json"
        path.write_text(json.dumps({"reason": ev.reason, "error": ev.error}))

    await session.start(agent=Agent(instructions="Talk.", tools=[lookup_weather]), room=ctx.room)
    await session.say("hello.")


if __name__ == "__main__":
    cli.run_app(server)
