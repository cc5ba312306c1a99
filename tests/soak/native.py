"""What livekit.rtc keeps of a call by itself: a bare program, without livekit-agents and voxray.

In each way to end a call, one after another in a process of its own: `leave` leaves the room,
`unpublish` takes the voice back before LiveKit closes the room, `published` does not, and `stream`
leaves the room without closing the stream that it listens with.
"""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from livekit import api, rtc

from tests.integration.programs.settled_memory import settled
from tests.running_app import ROOT
from voxray.actors.rtc_compat import quiet_native_runtime
from voxray.loadtest.livekit_server import LiveKitServer

WAYS = ("leave", "unpublish", "published", "stream")
_RATE = 24_000
_FRAME = rtc.AudioFrame(b"\1\0" * (_RATE // 50), _RATE, 1, _RATE // 50)
_FRAMES = 25
_WAIT_S = 10.0
_SETTLE_S = 30.0


def run_native(server: LiveKitServer, calls: int) -> dict[str, Any]:
    """Return KiB of the C heaps and threads that stay for each call, by the way it ended."""
    return {way: _in_own_process(server, way, calls) for way in WAYS}


def _in_own_process(server: LiveKitServer, way: str, calls: int) -> dict[str, float]:
    line = [sys.executable, "-m", "tests.soak.native", way, str(calls)]
    keys = {"URL": server.url, "KEY": server.api_key, "SECRET": server.api_secret}
    done = subprocess.run(
        line,
        cwd=ROOT,
        env={**os.environ, **{f"NATIVE_{name}": value for name, value in keys.items()}},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


class _Trial:
    """Calls in this process, each with a caller whose voice the agent hears."""

    def __init__(self, way: str, livekit: api.LiveKitAPI) -> None:
        self._way = way
        self._livekit = livekit

    async def call(self, number: int) -> None:
        """Make one call."""
        name = f"native-{self._way}-{number}"
        caller, agent = await _join(name, "caller"), await _join(name, "agent")
        heard: asyncio.Future[rtc.RemoteTrack] = asyncio.get_running_loop().create_future()
        gone = asyncio.Event()
        agent.on("track_subscribed", lambda track, *_: heard.set_result(track))
        agent.on("disconnected", lambda *_: gone.set())
        source, _ = await _publish(caller)
        _, voice = await _publish(agent)
        async with asyncio.timeout(_WAIT_S):
            stream = rtc.AudioStream.from_track(track=await heard)
            frames = aiter(stream)
            for _ in range(_FRAMES):
                await source.capture_frame(_FRAME)
                await anext(frames)
        if self._way != "stream":
            await stream.aclose()
        await caller.disconnect()
        if self._way == "unpublish":
            await agent.local_participant.unpublish_track(voice.sid)
        if self._way in {"unpublish", "published"}:
            await self._livekit.room.delete_room(api.DeleteRoomRequest(room=name))
            async with asyncio.timeout(_WAIT_S):
                await gone.wait()
        else:
            await agent.disconnect()


async def _join(name: str, who: str) -> rtc.Room:
    token = (
        api.AccessToken(os.environ["NATIVE_KEY"], os.environ["NATIVE_SECRET"])
        .with_identity(who)
        .with_grants(api.VideoGrants(room_join=True, room=name))
    )
    room = rtc.Room()
    await room.connect(os.environ["NATIVE_URL"], token.to_jwt())
    return room


async def _publish(room: rtc.Room) -> tuple[rtc.AudioSource, rtc.LocalTrackPublication]:
    source = rtc.AudioSource(_RATE, 1)
    track = rtc.LocalAudioTrack.create_audio_track("voice", source)
    options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
    return source, await room.local_participant.publish_track(track, options)


async def _measure(way: str, calls: int) -> dict[str, float]:
    async with api.LiveKitAPI(
        os.environ["NATIVE_URL"], os.environ["NATIVE_KEY"], os.environ["NATIVE_SECRET"]
    ) as livekit:
        trial = _Trial(way, livekit)
        # In a host the runtime never ends between two calls; here this room sees to it.
        keeper = await _join("native-keeper", "keeper")
        first = calls // 3
        for number in range(first):
            await trial.call(number)
        before = await _now()
        for number in range(first, calls):
            await trial.call(number)
        after = await _now()
        await keeper.disconnect()
    each = calls - first
    return {
        "kib_a_call": round((after["malloc"] - before["malloc"]) * 1024 / each, 1),
        "threads_a_call": round((after["threads"] - before["threads"]) / each, 2),
    }


async def _now() -> dict[str, float]:
    # What the native runtime takes down after a room it takes down by itself, and says nothing.
    await asyncio.sleep(_SETTLE_S)
    return {**settled(), "threads": len(list(Path("/proc/self/task").iterdir()))}


def main() -> None:
    """Measure one way, and write what stays as JSON."""
    quiet_native_runtime(os.environ)
    answer = asyncio.run(_measure(sys.argv[1], int(sys.argv[2])))
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
    # The rooms of `published` keep their threads for good.
    os._exit(0)


if __name__ == "__main__":
    main()
