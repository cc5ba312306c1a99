"""Scenes about the job, its room and who is in it."""

import asyncio
import logging
import os

from livekit import api, rtc
from livekit.agents import AutoSubscribe, JobContext, get_job_context
from observed import note

logger = logging.getLogger("clerk")

_EXPORTED = (
    "LIVEKIT_URL",
    "LIVEKIT_API_KEY",
    "LIVEKIT_API_SECRET",
    "LIVEKIT_AGENT_DEPLOYMENT",
    "LIVEKIT_REGION_NAME",
    "DROP_IN_OWN",
)


async def stay(ctx: JobContext) -> None:
    """Join and say who we are."""
    await ctx.connect()
    note(ctx.job.room.name, "joined", ctx.room.local_participant.identity.split("_")[0])


async def describe(ctx: JobContext) -> None:
    """Tell everything that a job says of itself."""
    info = ctx._info
    times = [info.received_at, info.accepted_at, info.assigned_at, info.launched_at]
    claims = ctx.token_claims()
    note(
        ctx.job.room.name,
        "job",
        {
            "id": ctx.job.id.split("_")[0],
            "agent_name": ctx.job.agent_name,
            "metadata": ctx.job.metadata,
            "attributes": dict(ctx.job.attributes),
            "dispatch": ctx.job.dispatch_id.split("_")[0],
            "deployment": ctx.job.deployment,
            "type": ctx.job.type,
            "room": [ctx.job.room.name, ctx.job.room.sid.split("_")[0], ctx.job.room.metadata],
            "worker": ctx.worker_id.split("_")[0],
            "fake": ctx.is_fake_job(),
            "recording": ctx.job.enable_recording,
            "redaction": ctx.job.enable_redaction,
            "agent_identity": ctx.job.state.participant_identity,
            "url": info.url == os.environ["LIVEKIT_URL"],
            "times": times == sorted(times) and times[0] > 0,
            # A stock worker loses `attributes` on the way to its job process.
            "accepted": [info.accept_arguments.name, info.accept_arguments.metadata],
            "claims": [claims.name, claims.kind, claims.metadata, claims.attributes],
            "grants": sorted(name for name, value in vars(claims.video).items() if value),
            "identity": ctx.local_participant_identity.split("_")[0],
            "simulation": ctx.simulation_context(),
            "headers": ctx.inference_headers,
            "directory": ctx.session_directory.is_dir(),
            "proc": [isinstance(ctx.proc.pid, int), ctx.proc.user_arguments, ctx.proc.http_proxy],
            "environment": {name: bool(os.environ.get(name)) for name in _EXPORTED},
        },
    )
    await ctx.connect()
    me = ctx.room.local_participant
    note(
        ctx.job.room.name,
        "joined",
        {
            "name": me.name,
            "metadata": me.metadata,
            "attributes": dict(me.attributes),
            "agent": ctx.agent is me,
            "room": ctx.room.name,
        },
    )


async def userdata(ctx: JobContext) -> None:
    """Two jobs in a row see what `setup_fnc` left and nothing of one another."""
    note(ctx.job.room.name, "before", dict(ctx.proc.userdata))
    ctx.proc.userdata["mine"] = ctx.job.metadata
    await ctx.connect()
    note(ctx.job.room.name, "after", dict(ctx.proc.userdata))
    ctx.shutdown("seen")


def subscribing(mode: AutoSubscribe):
    """Return an entrypoint that joins with a mode and tells what it is subscribed to."""

    async def play(ctx: JobContext) -> None:
        heard: set[str] = set()
        ctx.room.on("track_subscribed", lambda _, publication, __: heard.add(publication.name))
        await ctx.connect(auto_subscribe=mode)
        caller = await ctx.wait_for_participant()
        # The caller has published both, and then this, in order.
        await _until(ctx.room, "participant_attributes_changed", lambda: caller.attributes)
        wanted = {
            AutoSubscribe.SUBSCRIBE_ALL: {"voice", "picture"},
            AutoSubscribe.AUDIO_ONLY: {"voice"},
            AutoSubscribe.VIDEO_ONLY: {"picture"},
            AutoSubscribe.SUBSCRIBE_NONE: set(),
        }[mode]
        await _until(ctx.room, "track_subscribed", lambda: wanted <= heard)
        published = sorted(each.name for each in caller.track_publications.values())
        note(ctx.job.room.name, "tracks", [published, sorted(heard)])

    return play


async def _until(room: rtc.Room, event: str, holds) -> None:
    """Wait until something holds, asking again after each event."""
    news = asyncio.Event()
    room.on(event, lambda *_: news.set())
    while not holds():
        news.clear()
        await news.wait()


async def participants(ctx: JobContext) -> None:
    """An entrypoint for each participant, whether it was there before or comes later."""
    room = ctx.job.room.name

    async def first(job: JobContext, who: rtc.RemoteParticipant) -> None:
        note(room, f"entry of {who.identity}", job is ctx and get_job_context() is ctx)

    async def second(_: JobContext, who: rtc.RemoteParticipant) -> None:
        note(room, f"second entry of {who.identity}")

    ctx.add_participant_entrypoint(first)
    ctx.add_participant_entrypoint(second)
    try:
        ctx.add_participant_entrypoint(first)
    except ValueError as error:
        note(room, "twice", str(error))
    await ctx.connect()


async def wait_by_identity(ctx: JobContext) -> None:
    """Wait for one of two, without a `connect` of our own."""
    who = await ctx.wait_for_participant(identity="late")
    note(ctx.job.room.name, "came", [who.identity, who.name, who.metadata])


async def logs(ctx: JobContext) -> None:
    """Log with the job's fields, also from a task and from a thread."""
    ctx.log_context_fields = {"caller": "grace", "desk": 7}
    ctx.log_context_fields["floor"] = 2
    logger.info("from the entrypoint")
    logger.info("its own wins", extra={"desk": 8})
    logger.debug("too little to be said")

    async def in_task() -> None:
        note(ctx.job.room.name, "context in a task", get_job_context() is ctx)
        logger.warning("from a task")

    await asyncio.create_task(in_task())
    await asyncio.to_thread(logger.error, "from a thread")
    try:
        int("no number")
    except ValueError:
        logger.exception("with a traceback")
    note(ctx.job.room.name, "logged")
    await ctx.connect()


async def use_api(ctx: JobContext) -> None:
    """Ask and tell LiveKit something through `ctx.api`."""
    await ctx.connect()
    await ctx.wait_for_participant()
    room = ctx.job.room.name
    listed = await ctx.api.room.list_participants(api.ListParticipantsRequest(room=room))
    note(room, "listed", sorted(each.identity.split("_")[0] for each in listed.participants))
    await ctx.api.room.update_room_metadata(
        api.UpdateRoomMetadataRequest(room=room, metadata="set by the agent")
    )


async def exchange(ctx: JobContext) -> None:
    """Data packets, text and byte streams, RPC and attributes, in both directions."""
    room = ctx.job.room.name

    def on_data(packet: rtc.DataPacket) -> None:
        note(room, "data", [packet.topic, packet.data.decode(), packet.participant.identity])

    async def read_text(reader: rtc.TextStreamReader, sender: str) -> None:
        note(room, "text", [reader.info.topic, await reader.read_all(), sender])

    async def read_bytes(reader: rtc.ByteStreamReader, sender: str) -> None:
        size = len(b"".join([chunk async for chunk in reader]))
        note(room, "bytes", [reader.info.name, size, sender])

    reads: set[asyncio.Task[None]] = set()
    ctx.room.on("data_received", on_data)
    ctx.room.register_text_stream_handler(
        "question", lambda *args: reads.add(asyncio.create_task(read_text(*args)))
    )
    ctx.room.register_byte_stream_handler(
        "file", lambda *args: reads.add(asyncio.create_task(read_bytes(*args)))
    )
    await ctx.connect()
    me = ctx.room.local_participant

    @me.register_rpc_method("double")
    async def double(data: rtc.RpcInvocationData) -> str:
        if data.payload == "no number":
            raise rtc.RpcError(1500, "no number", data.caller_identity)
        return str(2 * int(data.payload))

    caller = await ctx.wait_for_participant()
    await me.set_attributes({"state": "ready"})
    answer = await me.perform_rpc(
        destination_identity=caller.identity, method="greet", payload="agent"
    )
    note(room, "rpc answer", answer)
    await me.publish_data("from the agent", topic="news", reliable=True)
    await me.send_text("said by the agent", topic="answer")
    writer = await me.stream_bytes("picture.png", topic="file", mime_type="image/png")
    await writer.write(b"x" * 40_000)
    await writer.aclose()


PLAYS = {
    "accept": describe,
    "defaults": describe,
    "by-token": describe,
    "by-room": describe,
    "userdata-1": userdata,
    "userdata-2": userdata,
    "subscribe-all": subscribing(AutoSubscribe.SUBSCRIBE_ALL),
    "subscribe-none": subscribing(AutoSubscribe.SUBSCRIBE_NONE),
    "audio-only": subscribing(AutoSubscribe.AUDIO_ONLY),
    "video-only": subscribing(AutoSubscribe.VIDEO_ONLY),
    "participants": participants,
    "wait-by-identity": wait_by_identity,
    "logs": logs,
    "api": use_api,
    "exchange": exchange,
}
