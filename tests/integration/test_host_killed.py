"""What runs a live call is killed: the call goes on, and metrics, story and trace tell of it."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from livekit import api
from livekit.protocol.models import ParticipantInfo

from tests.fakes.otlp_receiver import ReceivedSpan, otlp_receiver
from tests.running_app import PROGRAMS, RunningApp, voxray_app
from voxray.loadtest.access import LiveKitAccess
from voxray.loadtest.caller import Caller
from voxray.loadtest.livekit_server import LiveKitServer
from voxray.loadtest.speech import speak

pytestmark = pytest.mark.timeout(240)
AGENT = ParticipantInfo.Kind.AGENT
PROGRAM = PROGRAMS / "ungreeting.py"


def access_to(server: LiveKitServer) -> LiveKitAccess:
    return LiveKitAccess(url=server.url, api_key=server.api_key, api_secret=server.api_secret)


async def agents_in(server: LiveKitServer, room_name: str) -> list[str]:
    """Return the identities of the agents that LiveKit sees in a room."""
    async with api.LiveKitAPI(server.url, server.api_key, server.api_secret) as livekit:
        listed = await livekit.room.list_participants(api.ListParticipantsRequest(room=room_name))
    return [each.identity for each in listed.participants if each.kind == AGENT]


@asynccontextmanager
async def live_call(server: LiveKitServer, room_name: str) -> AsyncIterator[Caller]:
    """A caller who has had one answer already."""
    caller = Caller(access_to(server), room_name)
    try:
        await caller.join()
        await answered(caller, "red house")
        yield caller
    finally:
        await caller.aclose()


async def answered(caller: Caller, words: str) -> None:
    exchange = await caller.ask(await asyncio.to_thread(speak, words))
    assert exchange.answer == f"you said {words}.", exchange


def job_of(status: dict) -> dict:
    (job,) = [job for host in status["hosts"] for job in host["jobs"]]
    return job


async def kill_host_of_the_call(app: RunningApp) -> tuple[dict, dict]:
    """Kill the host that runs the one call; return it and the job."""
    # The spare host that the call goes to is there before the kill.
    status = await app.until_status(
        lambda status: sum(host["state"] == "ready" for host in status["hosts"]) >= 2
    )
    victim = next(host for host in status["hosts"] if host["jobs"])
    os.kill(victim["pid"], signal.SIGKILL)
    return victim, job_of(status)


def check_trace(spans: list[ReceivedSpan], job_id: str) -> None:
    """One trace holds the placement, the resume with its gap, and the agent's own tree."""
    (placement,) = [span for span in spans if span.name == "voxray.placement"]
    (resume,) = [span for span in spans if span.name == "voxray.resume"]
    assert placement.parent_id == ""
    assert placement.service == "voxray-dispatcher"
    assert resume.trace_id == placement.trace_id
    assert resume.attributes["voxray.failover.kind"] == "host_died"
    assert resume.attributes["lk.job_id"] == job_id
    gap_s = resume.attributes["voxray.failover.gap_s"]
    assert isinstance(gap_s, float)
    assert gap_s > 0
    roots = [span for span in spans if span.name == "job_entrypoint"]
    assert roots, "the host that took over sent its own tree"
    for root in roots:
        assert root.trace_id == placement.trace_id
        assert root.parent_id == placement.span_id
        assert root.service == "voxray-host"
    known = {span.span_id for span in spans}
    turns = [span for span in spans if span.name == "agent_turn"]
    assert turns
    assert all(turn.trace_id == placement.trace_id and turn.parent_id in known for turn in turns)


async def test_a_killed_host_costs_no_call(
    livekit_server: LiveKitServer, tmp_path: Path, room_name: str
) -> None:
    async with otlp_receiver() as receiver:
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
            "VOXRAY_TELEMETRY__OTLP_PROTOCOL": "http/protobuf",
        }
        async with voxray_app(livekit_server, tmp_path, PROGRAM, environment=environment) as app:
            async with live_call(livekit_server, room_name) as caller:
                before = await agents_in(livekit_server, room_name)
                assert len(before) == 1
                victim, job = await kill_host_of_the_call(app)
                done = await app.until_event("FailoverDone")
                assert (done["outcome"], done["kind"]) == ("resumed", "host_died")
                assert done["from_host"] == victim["id"] != done["to_host"]
                assert done["generation"] == 2
                assert done["detection_s"] < 1.0
                # LiveKit takes the newcomer for the end of the old one and terminates the job.
                ignored = await app.until_event("TerminationIgnored")
                assert ignored["job_id"] == job["id"]
                await answered(caller, "blue garden")
                assert await agents_in(livekit_server, room_name) == before
                now = job_of(await app.status())
                assert (now["id"], now["generation"]) == (job["id"], 2)
                metrics = await app.get("/metrics")
                assert 'voxray_failovers_total{kind="host_died",outcome="resumed"} 1.0' in metrics
                assert 'voxray_failover_gap_seconds_count{kind="host_died"} 1.0' in metrics
                assert 'voxray_hosts_lost_total{kind="host_died"} 1.0' in metrics
                story = await app.get(f"/jobs/{job['id']}/story")
                hosts = [entry["host_id"] for entry in story["story"]]
                assert victim["id"] in hosts
                assert done["to_host"] in hosts
            await close_room(livekit_server, room_name)
            ended = await app.until_event("JobEnded")
            assert ended["outcome"] == "success"
        await receiver.until(lambda spans: any(span.name == "job_entrypoint" for span in spans))
        check_trace(receiver.spans, job["id"])


async def test_a_killed_dispatcher_is_not_noticed_by_the_call(
    livekit_server: LiveKitServer, tmp_path: Path, room_name: str
) -> None:
    async with voxray_app(livekit_server, tmp_path, PROGRAM) as app:
        async with live_call(livekit_server, room_name) as caller:
            status = await app.status()
            job, host = job_of(status), next(h for h in status["hosts"] if h["jobs"])
            os.kill(status["dispatchers"][0]["pid"], signal.SIGKILL)
            # No one tells the caller anything; the next answer just comes.
            await answered(caller, "green river")
            after = await app.until_back(status["dispatchers"][0]["pid"])
            assert after["dispatchers"][0]["pid"] != status["dispatchers"][0]["pid"]
            after = await app.until_status(lambda now: any(h["jobs"] for h in now["hosts"]))
            assert job_of(after)["id"] == job["id"]
            assert job_of(after)["generation"] == 1
            assert host["pid"] in [each["pid"] for each in after["hosts"]]
            await app.until_status(lambda now: now["dispatchers"][0]["registered"])
            await answered(caller, "yellow window")
        # New calls come to the new dispatcher.
        async with live_call(livekit_server, f"{room_name}-next"):
            pass


async def test_a_killed_replica_is_replaced_under_a_live_call(
    livekit_server: LiveKitServer, tmp_path: Path, room_name: str
) -> None:
    async with (
        voxray_app(livekit_server, tmp_path, PROGRAM) as app,
        live_call(livekit_server, room_name) as caller,
    ):
        (replica,) = (await app.status())["replicas"]
        os.kill(replica["pid"], signal.SIGKILL)
        lost = await app.until_event("ReplicaLost")
        assert lost["replica_id"] == replica["id"]
        await app.until_event("ReplicaReady", lambda event: event["replica_id"] != replica["id"])
        await app.until_status(lambda status: any(r["streams"] for r in status["replicas"]))
        await answered(caller, "blue house")


async def close_room(server: LiveKitServer, room: str) -> None:
    async with api.LiveKitAPI(server.url, server.api_key, server.api_secret) as livekit:
        await livekit.room.delete_room(api.DeleteRoomRequest(room=room))
