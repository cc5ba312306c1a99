"""A running app gets a new version of its program: new calls run it, old ones end as they were."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from livekit import api
from livekit.protocol.models import ParticipantInfo

from tests.running_app import RunningApp, environment_for, voxray_app
from voxray.loadtest.livekit_server import LiveKitServer

pytestmark = pytest.mark.timeout(240)

PROGRAM = """
from livekit.agents import AgentServer, JobContext, JobRequest
from spoken_name import NAME

server = AgentServer()


async def accept(request: JobRequest) -> None:
    await request.accept(name=NAME)


@server.rtc_session(on_request=accept)
async def entrypoint(ctx: JobContext):
    await ctx.connect()
"""
CHANGE = """
import asyncio, os, sys
from pathlib import Path
from voxray.base.settings import RaySettings
from voxray.cli.cluster import join
from voxray.cli.probe import probe_program

cluster = join(RaySettings(address=sys.argv[1]), namespace="voxray", log_to_driver=False)
import ray
program = asyncio.run(probe_program(Path(sys.argv[2]), os.environ))
ray.get(ray.get_actor("dispatcher").change_program.remote(program.info))
print(program.info.version)
cluster.close()
"""


def change_program(server: LiveKitServer, app: RunningApp, home: Path, program: Path) -> str:
    """Tell the app's dispatcher of the program as it is now; return its version."""
    raylet = next(each for each in app.processes() if each.name() == "raylet")
    address = re.search(r"--gcs-address=(\S+)", " ".join(raylet.cmdline()))
    assert address, raylet.cmdline()
    done = subprocess.run(
        (sys.executable, "-c", CHANGE, address[1], str(program)),
        # As the app's own Ray was started: on loopback, with a token.
        env={
            **environment_for(server, home),
            **{name: value for name, value in raylet.environ().items() if name.startswith("RAY_")},
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1]


async def agent_of_new_room(server: LiveKitServer, app: RunningApp, room: str) -> str:
    """Create a room and return the name of the agent that comes."""
    begun = (await app.get("/events", after="0", wait="0"))["cursor"]
    async with api.LiveKitAPI(server.url, server.api_key, server.api_secret) as livekit:
        await livekit.room.create_room(api.CreateRoomRequest(name=room))
        await app.until_event("JobRunning", lambda event: event["cursor"] > begun)
        listed = await livekit.room.list_participants(api.ListParticipantsRequest(room=room))
    (name,) = [each.name for each in listed.participants if each.kind == ParticipantInfo.AGENT]
    return name


async def test_new_calls_run_the_new_version_and_old_ones_end_as_they_were(
    livekit_server, tmp_path, room_name
):
    program = tmp_path / "agent.py"
    program.write_text(PROGRAM)
    (tmp_path / "spoken_name.py").write_text("NAME = 'one'\n")
    no_replicas = {"VOXRAY_INFERENCE__GROUPS": "[]"}
    async with voxray_app(livekit_server, tmp_path, program, environment=no_replicas) as app:
        assert await agent_of_new_room(livekit_server, app, f"{room_name}-1") == "one"

        # Not the program's file itself, but what it imports.
        (tmp_path / "spoken_name.py").write_text("NAME = 'two'\n")
        await asyncio.to_thread(change_program, livekit_server, app, tmp_path, program)
        status = await app.until_status(
            lambda status: (
                sorted(host["state"] for host in status["hosts"]) == ["outdated", "ready"]
            )
        )
        (old,) = [host for host in status["hosts"] if host["state"] == "outdated"]
        assert len(old["jobs"]) == 1
        assert await agent_of_new_room(livekit_server, app, f"{room_name}-2") == "two"

        # A dispatcher that Ray restarts still knows which version is the current one.
        pid = status["dispatchers"][0]["pid"]
        os.kill(pid, signal.SIGKILL)
        status = await app.until_back(pid)
        status = await app.until_status(
            lambda status: sum(len(host["jobs"]) for host in status["hosts"]) == 2
        )
        states = {host["id"]: host["state"] for host in status["hosts"]}
        assert states[old["id"]] == "outdated"
        assert await agent_of_new_room(livekit_server, app, f"{room_name}-3") == "two"

        async with api.LiveKitAPI(
            livekit_server.url, livekit_server.api_key, livekit_server.api_secret
        ) as livekit:
            await livekit.room.delete_room(api.DeleteRoomRequest(room=f"{room_name}-1"))
            await app.until_event("HostRetired", lambda event: event["host_id"] == old["id"])
            # Its end would wait for these.
            for number in (2, 3):
                await livekit.room.delete_room(api.DeleteRoomRequest(room=f"{room_name}-{number}"))
