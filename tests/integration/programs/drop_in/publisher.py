"""`WorkerOptions`: a hidden agent for each publisher, automatic dispatch, through an HTTP proxy."""

import asyncio
import math
import os

from livekit import api, rtc
from livekit.agents import (
    JobContext,
    JobProcess,
    JobRequest,
    WorkerOptions,
    WorkerPermissions,
    WorkerType,
    cli,
)
from observed import note


def prewarm(proc: JobProcess) -> None:
    """Leave the proxy that the process knows."""
    proc.userdata["proxy"] = proc.http_proxy


async def on_request(request: JobRequest) -> None:
    """Tell for whom the job is."""
    note(
        request.room.name,
        "asked",
        [request.agent_name, request.publisher.identity, request.publisher.name, request.job.type],
    )
    await request.accept(identity=f"for-{request.publisher.identity}")


async def entrypoint(ctx: JobContext) -> None:
    """Show what a hidden agent may do, and who its publisher is."""
    room = ctx.job.room.name
    proxies = {ctx.proc.http_proxy, ctx.proc.userdata["proxy"]}
    note(room, "proxy", proxies == {os.environ["DROP_IN_PROXY"]})
    note(room, "publisher", [ctx.job.participant.identity, ctx.job.participant.name])
    note(room, "environment", os.environ.get("LIVEKIT_AGENT_NAME"))
    await ctx.connect()
    await ctx.wait_for_participant(identity=ctx.job.participant.identity)
    track = rtc.LocalAudioTrack.create_audio_track("voice", rtc.AudioSource(48_000, 1))
    try:
        async with asyncio.timeout(30):
            await ctx.room.local_participant.publish_track(track)
        note(room, "published")
    except rtc.participant.PublishTrackError as error:
        note(room, "not published", "permission" in str(error).lower())
    await ctx.api.room.update_room_metadata(
        api.UpdateRoomMetadataRequest(room=room, metadata=f"watched {ctx.job.participant.identity}")
    )
    note(room, "done")


if __name__ == "__main__":
    cli.run_app(
        WorkerOptions(
            entrypoint_fnc=entrypoint,
            request_fnc=on_request,
            prewarm_fnc=prewarm,
            worker_type=WorkerType.PUBLISHER,
            permissions=WorkerPermissions(
                can_publish=False, can_publish_data=False, can_update_metadata=False, hidden=True
            ),
            load_fnc=lambda: 0.0,
            load_threshold=math.inf,
            num_idle_processes=1,
            http_proxy=os.environ["DROP_IN_PROXY"],
            initialize_process_timeout=60.0,
            shutdown_process_timeout=60.0,
            host="127.0.0.1",
            port=int(os.environ.get("DROP_IN_PORT", "0")),
        )
    )
