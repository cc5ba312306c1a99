"""A session host is killed under a live call: its job goes on elsewhere and the caller hears it."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
from livekit import api
from livekit.protocol.models import ParticipantInfo

from tests.running_app import PROGRAMS, voxray_app
from voxray.loadtest.access import LiveKitAccess
from voxray.loadtest.caller import Caller
from voxray.loadtest.livekit_server import LiveKitServer
from voxray.loadtest.speech import speak

pytestmark = pytest.mark.timeout(240)
AGENT = ParticipantInfo.Kind.AGENT


async def agents_in(access: LiveKitAccess, room_name: str) -> list[str]:
    """Return the identities of the agents that LiveKit sees in a room."""
    async with api.LiveKitAPI(access.url, access.api_key, access.api_secret) as livekit:
        listed = await livekit.room.list_participants(api.ListParticipantsRequest(room=room_name))
    return [each.identity for each in listed.participants if each.kind == AGENT]


async def test_a_killed_host_costs_no_call(
    livekit_server: LiveKitServer, tmp_path: Path, room_name: str
) -> None:
    access = LiveKitAccess(
        url=livekit_server.url,
        api_key=livekit_server.api_key,
        api_secret=livekit_server.api_secret,
    )
    async with voxray_app(livekit_server, tmp_path, PROGRAMS / "ungreeting.py") as app:
        caller = Caller(access, room_name)
        try:
            await caller.join()
            exchange = await caller.ask(await asyncio.to_thread(speak, "red house"))
            assert exchange.answer == "you said red house."
            status = await app.until_status(
                lambda status: sum(host["state"] == "ready" for host in status["hosts"]) >= 2
            )
            victim = next(host for host in status["hosts"] if host["jobs"])
            job = victim["jobs"][0]
            before = await agents_in(access, room_name)
            assert len(before) == 1
            os.kill(victim["pid"], signal.SIGKILL)
            done = await app.until_event("FailoverDone")
            assert done["outcome"] == "resumed"
            assert done["kind"] == "host_died"
            assert done["from_host"] == victim["id"] != done["to_host"]
            assert done["generation"] == 2
            assert done["detection_s"] < 1.0
            # LiveKit takes the newcomer for the end of the old one and terminates the job.
            ignored = await app.until_event("TerminationIgnored")
            assert ignored["job_id"] == job["id"]
            exchange = await caller.ask(await asyncio.to_thread(speak, "blue garden"))
            assert exchange.answer == "you said blue garden."
            assert await agents_in(access, room_name) == before
            status = await app.status()
            live = [j for host in status["hosts"] for j in host["jobs"]]
            assert [(j["id"], j["generation"]) for j in live] == [(job["id"], 2)]
            metrics = await app.get("/metrics")
            assert 'voxray_failovers_total{kind="host_died",outcome="resumed"} 1.0' in metrics
            assert 'voxray_failover_gap_seconds_count{kind="host_died"} 1.0' in metrics
        finally:
            await caller.aclose()
        ended = await app.until_event("JobEnded")
        assert ended["outcome"] == "success"
