"""A session host is killed under a live call: its job goes on elsewhere and the caller hears it."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
from livekit import rtc

from tests.running_app import PROGRAMS, voxray_app
from voxray.loadtest.access import LiveKitAccess
from voxray.loadtest.caller import Caller
from voxray.loadtest.livekit_server import LiveKitServer
from voxray.loadtest.speech import speak

pytestmark = pytest.mark.timeout(240)


class Watcher:
    """A silent participant that notes who comes and goes."""

    def __init__(self, access: LiveKitAccess, room_name: str) -> None:
        self._access = access
        self._room_name = room_name
        self._room = rtc.Room()
        self.agents: list[tuple[str, str]] = []
        self._room.on("participant_connected", lambda p: self._note("joined", p))
        self._room.on("participant_disconnected", lambda p: self._note("left", p))

    def _note(self, what: str, participant: rtc.RemoteParticipant) -> None:
        if participant.kind == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT:
            self.agents.append((what, participant.identity))

    @property
    def present(self) -> list[str]:
        return [
            p.identity
            for p in self._room.remote_participants.values()
            if p.kind == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT
        ]

    async def __aenter__(self) -> "Watcher":
        token = self._access.caller_token(self._room_name, "watcher")
        await self._room.connect(self._access.url, token)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._room.disconnect()


async def test_a_killed_host_costs_no_call(
    livekit_server: LiveKitServer, tmp_path: Path, room_name: str
) -> None:
    access = LiveKitAccess(
        url=livekit_server.url,
        api_key=livekit_server.api_key,
        api_secret=livekit_server.api_secret,
    )
    async with voxray_app(livekit_server, tmp_path, PROGRAMS / "quickstart.py") as app:
        # The spare host that a failover goes to is there before the kill.
        await app.until_status(
            lambda status: (
                sum(host["state"] == "ready" for host in status["hosts"]) >= 2
                or not any(host["jobs"] for host in status["hosts"])
            )
        )
        caller = Caller(access, room_name)
        try:
            await caller.join()
            assert await caller.hear_greeting()
            exchange = await caller.ask(await asyncio.to_thread(speak, "red house"))
            assert exchange.answer == "you said red house."
            status = await app.until_status(
                lambda status: sum(host["state"] == "ready" for host in status["hosts"]) >= 2
            )
            victim = next(host for host in status["hosts"] if host["jobs"])
            job = victim["jobs"][0]
            async with Watcher(access, room_name) as watcher:
                before = watcher.present
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
                assert "blue garden" in exchange.answer
                assert watcher.present == before
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
