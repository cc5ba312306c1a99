"""The room's side of the scenes that `programs/drop_in/clerk.py` plays."""

import asyncio
from typing import Any

import aiohttp
from livekit import api, rtc

from tests.drop_in import Caller, Play, Scene

AGENT_NAME = "clerk"


async def describe_agent(scene: Scene, caller: Caller) -> None:
    """Note everything that a participant sees of the agent."""
    agent = await caller.agent()
    scene.note(
        "agent",
        {
            "identity": agent.identity,
            "name": agent.name,
            "metadata": agent.metadata,
            "attributes": dict(agent.attributes),
        },
    )
    (info,) = await scene.agents()
    permission = info.permission
    scene.note(
        "permission",
        [
            permission.can_publish,
            permission.can_subscribe,
            permission.can_publish_data,
            permission.can_update_metadata,
            permission.hidden,
            permission.agent,
        ],
    )


async def accept(scene: Scene) -> None:
    await scene.dispatch(AGENT_NAME, metadata='{"vip": true}', attributes={"source": "api"})
    caller = await scene.join("caller")
    await scene.program("joined")
    await describe_agent(scene, caller)
    scene.note("jobs", await scene.job_status())


async def by_token(scene: Scene) -> None:
    caller = await scene.join(
        "caller",
        config=api.RoomConfiguration(
            agents=[api.RoomAgentDispatch(agent_name=AGENT_NAME, metadata="from the token")]
        ),
    )
    await scene.program("joined")
    await describe_agent(scene, caller)


async def by_room(scene: Scene) -> None:
    await scene.api.room.create_room(
        api.CreateRoomRequest(
            name=scene.name,
            metadata="about the room",
            agents=[api.RoomAgentDispatch(agent_name=AGENT_NAME, metadata="from the room")],
        )
    )
    caller = await scene.join("caller")
    await scene.program("joined")
    await describe_agent(scene, caller)


async def refused(scene: Scene) -> None:
    """No agent comes, and the caller's room stays as it is."""
    caller = await scene.join("caller")
    await scene.dispatch(AGENT_NAME)
    await scene.program("asked")
    # LiveKit answers this over the same connection as everything that came before it.
    scene.note("agents", len(await scene.agents()))
    scene.note("in the room", caller.room.isconnected())


async def plays(scene: Scene) -> None:
    """The job ends by itself: its room sees the agent come and go."""
    await scene.join("caller")
    await scene.dispatch(AGENT_NAME, metadata=scene.name)
    await scene.program("closing")


async def subscribes(scene: Scene) -> None:
    caller = await scene.join("caller")
    voice = rtc.LocalAudioTrack.create_audio_track("voice", rtc.AudioSource(48_000, 1))
    picture = rtc.LocalVideoTrack.create_video_track("picture", rtc.VideoSource(64, 48))
    me = caller.room.local_participant
    for track in (voice, picture):
        await me.publish_track(track)
    await scene.dispatch(AGENT_NAME)
    await caller.agent()
    await me.set_attributes({"published": "both"})
    await scene.program("tracks")


async def participants(scene: Scene) -> None:
    await scene.join("early")
    await scene.dispatch(AGENT_NAME)
    await scene.program("second entry of early")
    await scene.join("late")
    await scene.program("second entry of late")


async def wait_by_identity(scene: Scene) -> None:
    early = await scene.join("early")
    await scene.dispatch(AGENT_NAME)
    await early.agent()
    await scene.join("late", name="Lady Late", metadata="comes last")
    await scene.program("came")


async def logs(scene: Scene) -> None:
    """What is logged in a job: level, message, and the fields of the job."""
    await scene.dispatch(AGENT_NAME)
    await scene.join("caller")
    await scene.program("logged")
    lines = await scene.worker.until_logged("clerk", lambda lines: "with a traceback" in str(lines))
    for line in lines:
        scene.note(
            "log",
            {
                **{key: line.get(key) for key in ("level", "caller", "desk", "floor")},
                # A stock job process appends the traceback to the message.
                "message": line["message"].partition("\n")[0],
                "traceback": "ValueError: invalid literal"
                in line["message"] + str(line.get("exc_info", "")),
                "job": [line["room"], line["agent_name"], line["job_id"], line["room_id"]],
                "time": "T" in line["timestamp"] or " " in line["timestamp"],
            },
        )


async def uses_api(scene: Scene) -> None:
    caller = await scene.join("caller")
    await scene.dispatch(AGENT_NAME)
    await caller.until(lambda: caller.room.metadata)
    scene.note("room metadata", caller.room.metadata)
    await scene.program("listed")


async def exchange(scene: Scene) -> None:
    caller = await scene.join("caller")
    me = caller.room.local_participant
    got: dict[str, Any] = {}

    def keep(fact: str, value: object) -> None:
        got[fact] = value
        caller.tell()

    async def read_text(reader: rtc.TextStreamReader, sender: str) -> None:
        keep("text", [reader.info.topic, await reader.read_all(), sender.split("_", maxsplit=1)[0]])

    async def read_bytes(reader: rtc.ByteStreamReader, sender: str) -> None:
        size = len(b"".join([chunk async for chunk in reader]))
        keep(
            "bytes",
            [reader.info.name, reader.info.mime_type, size, sender.split("_", maxsplit=1)[0]],
        )

    @me.register_rpc_method("greet")
    async def greet(data: rtc.RpcInvocationData) -> str:
        return f"hello {data.payload}"

    reads: set[asyncio.Task[None]] = set()
    caller.room.register_text_stream_handler(
        "answer", lambda *args: reads.add(asyncio.create_task(read_text(*args)))
    )
    caller.room.register_byte_stream_handler(
        "file", lambda *args: reads.add(asyncio.create_task(read_bytes(*args)))
    )
    caller.on("data_received", lambda packet: keep("data", [packet.topic, packet.data.decode()]))
    await scene.dispatch(AGENT_NAME)
    agent = await caller.agent()
    await caller.until(lambda: agent.attributes.get("state") == "ready")
    doubled = await me.perform_rpc(
        destination_identity=agent.identity, method="double", payload="21"
    )
    scene.note("doubled", doubled)
    for method, payload in (("double", "no number"), ("missing", "")):
        try:
            await me.perform_rpc(
                destination_identity=agent.identity, method=method, payload=payload
            )
        except rtc.RpcError as error:
            scene.note("rpc error", [error.code, error.message])
    await me.publish_data("from the caller", topic="news", reliable=True)
    await scene.program("data")
    await me.send_text("asked by the caller", topic="question")
    await scene.program("text")
    writer = await me.stream_bytes("notes.txt", topic="file")
    await writer.write(b"y" * 30_000)
    await writer.aclose()
    await scene.program("bytes")
    await caller.until(lambda: len(got) == 3)
    for fact in sorted(got):
        scene.note(fact, got[fact])


async def writes(scene: Scene) -> None:
    """A text session: what is written on lk.chat is answered on lk.transcription."""
    caller = await scene.join("caller")
    answers: list[str] = []
    reads: set[asyncio.Task[None]] = set()

    async def read(reader: rtc.TextStreamReader, sender: str) -> None:
        answers.append(await reader.read_all())
        caller.tell()

    caller.room.register_text_stream_handler(
        "lk.transcription", lambda *args: reads.add(asyncio.create_task(read(*args)))
    )
    await scene.dispatch(AGENT_NAME)
    agent = await caller.agent()
    await scene.program("primary")
    for number, words in enumerate(("good morning", "good night")):
        await caller.room.local_participant.send_text(words, topic="lk.chat")
        await caller.until(lambda number=number: len(answers) > number)
    scene.note("answers", answers)
    scene.note("attributes", sorted(agent.attributes))
    # Nothing was said aloud.
    scene.note("tracks", len(agent.track_publications))


async def leaves(scene: Scene) -> None:
    """The caller hangs up; what the program and the room become of it."""
    caller = await scene.join("caller")
    await scene.dispatch(AGENT_NAME)
    await caller.agent()
    await scene.program("primary")
    await caller.leave()
    await scene.program("session closed")


async def deletes(scene: Scene) -> None:
    caller = await scene.join("caller")
    await scene.dispatch(AGENT_NAME)
    await caller.until(lambda: caller.left_for)
    scene.note("left for", caller.left_for)
    await scene.program("closing")


async def dispatch_deleted(scene: Scene) -> None:
    """The agent is taken away from outside."""
    caller = await scene.join("caller")
    dispatch_id = await scene.dispatch(AGENT_NAME)
    await scene.program("ready")
    await caller.agent()
    await scene.api.agent_dispatch.delete_dispatch(dispatch_id, scene.name)
    await caller.until_agent_left()
    scene.note("still there", caller.room.isconnected())


async def drained(scene: Scene) -> None:
    """The worker drains while this call goes on, beyond the deadline."""
    caller = await scene.join("caller")
    await scene.dispatch(AGENT_NAME)
    await caller.agent()
    await caller.until_agent_left()


async def finished(scene: Scene) -> None:
    """The call ends during the drain, and no new one is taken."""
    caller = await scene.join("caller")
    await scene.dispatch(AGENT_NAME)
    await caller.agent()
    await scene.worker.draining.wait()
    await scene.program("ready")
    await caller.room.local_participant.publish_data("finish")
    await caller.until_agent_left()


async def health(scene: Scene) -> None:
    """The worker's own HTTP pages."""
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{scene.worker.http}/") as response:
            scene.note("health", [response.status, await response.text()])
        async with session.get(f"{scene.worker.http}/worker") as response:
            page = await response.json()
            scene.note("worker", [response.status, response.content_type])
    # How many jobs run just now depends on the other scenes; both are 0 when they are left out.
    page.pop("active_jobs", None)
    page.pop("worker_load", None)
    scene.note("page", page)


async def publishes(scene: Scene) -> None:
    """A job for the publisher, none for who only listens; the agent is hidden."""
    caller = await scene.join("caller", name="Carl")
    await scene.join("listener")
    voice = rtc.LocalAudioTrack.create_audio_track("voice", rtc.AudioSource(48_000, 1))
    await caller.room.local_participant.publish_track(voice)
    await scene.program("done")
    await caller.until(lambda: caller.room.metadata)
    scene.note("metadata", caller.room.metadata)
    scene.note("seen", sorted(each.identity for each in caller.room.remote_participants.values()))
    scene.note("listed", sorted(each.identity for each in await scene.agents()))


async def by_environment(scene: Scene) -> None:
    """The name and the deployment of the environment count, not those of the program."""
    caller = await scene.join("caller")
    await scene.dispatch("day", deployment="blue")
    await scene.dispatch("night", metadata="other deployment")
    await scene.dispatch("night", deployment="blue", metadata="ours")
    await scene.program("ready")
    agent = await caller.agent()
    scene.note("attributes", dict(agent.attributes))
    said = f"said aloud in {scene.name}"
    lines = await scene.worker.until_logged("night", lambda lines: said in str(lines))
    scene.note(
        "log",
        [
            [line["level"], line["message"], line["region"]]
            for line in lines
            if line["room"] == scene.name
        ],
    )


async def stuck(scene: Scene) -> None:
    """A shutdown callback never ends: the job is ended from outside, and its agent leaves."""
    caller = await scene.join("caller")
    dispatch_id = await scene.dispatch("night", deployment="blue")
    await scene.program("ready")
    await caller.agent()
    await scene.api.agent_dispatch.delete_dispatch(dispatch_id, scene.name)
    await scene.program("callback begins")
    await caller.until_agent_left()
    await until_no_job(scene)
    scene.note("still there", caller.room.isconnected())


async def until_no_job(scene: Scene) -> None:
    """Wait until the worker has no job: a stuck one is cut short."""
    async with aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"{scene.worker.http}/worker") as response:
                if not (await response.json()).get("active_jobs"):
                    return
            # Nothing tells of it; the next look is one interval away.
            await asyncio.sleep(0.2)


PUBLISHER: dict[str, Play] = {"publisher": publishes}
NIGHT: dict[str, Play] = {"by-environment": by_environment, "stuck-callback": stuck}
SCENES: dict[str, Play] = {
    "accept": accept,
    "defaults": accept,
    "by-token": by_token,
    "by-room": by_room,
    "reject": refused,
    "reject-and-terminate": refused,
    "reject-and-keep": refused,
    "no-answer": refused,
    "request-raises": refused,
    "userdata-1": plays,
    "userdata-2": plays,
    "subscribe-all": subscribes,
    "subscribe-none": subscribes,
    "audio-only": subscribes,
    "video-only": subscribes,
    "participants": participants,
    "wait-by-identity": wait_by_identity,
    "logs": logs,
    "api": uses_api,
    "exchange": exchange,
    "written": writes,
    "report": plays,
    "caller-leaves": leaves,
    "caller-leaves-and-room-goes": leaves,
    "shutdown": plays,
    "shutdown-plain": plays,
    "shutdown-empty": plays,
    "delete-room": deletes,
    "crash": plays,
    "crash-late": plays,
    "leave": plays,
    "callback-raises": plays,
    "stuck-session-end": plays,
    "session-end-raises": plays,
    "dispatch-deleted": dispatch_deleted,
    "health": health,
}
CLOSING: dict[str, Play] = {"drain-outlived": drained, "drain-finished": finished}
