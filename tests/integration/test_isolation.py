"""What one job does to itself leaves the other calls of its host alone."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.dispatched import Dispatches, Neighbour, end_of_room, job_of_room
from tests.running_app import PROGRAMS, RunningApp, voxray_app
from voxray.loadtest.livekit_server import LiveKitServer

pytestmark = pytest.mark.timeout(240)
PROGRAM = PROGRAMS / "troublemaker.py"
ONE_HOST = {"VOXRAY_HOSTS__MAX_HOSTS": "1"}

# What a job does, and how it must end.
TROUBLE = {
    "raise": ("failed", "ValueError: trouble"),
    "raise_unconnected": ("failed", "ValueError: trouble"),
    "raise_in_task": ("success", "done"),
    "raise_in_callback": ("success", "done"),
    "raise_in_event": ("success", "done"),
    "raise_in_tool": ("success", "done"),
    "raise_in_shutdown": ("success", "done"),
    "exit:0": ("success", "SystemExit: 0"),
    "exit:3": ("failed", "SystemExit: 3"),
    "exit_unconnected": ("failed", "SystemExit: not today"),
    "exit_in_task:3": ("failed", "SystemExit: 3"),
    "exit_in_task:0": ("success", "SystemExit: 0"),
    "exit_in_callback:3": ("failed", "SystemExit: 3"),
    "exit_in_event:3": ("failed", "SystemExit: 3"),
    "exit_in_tool:3": ("failed", "SystemExit: 3"),
    "exit_in_shutdown": ("failed", "SystemExit: 4"),
    "interrupt": ("failed", "KeyboardInterrupt"),
    "interrupt_in_task": ("failed", "KeyboardInterrupt"),
    "hang_in_shutdown": ("failed", "it did not shut down in time and was cancelled"),
    "cancel_all": ("failed", "it was aborted"),
    "cancel_others": ("failed", "it was aborted"),
    "stop_loop": ("success", "done"),
    "leak": ("success", "done"),
    # Its own clean-up needs a thread: stock never ends it, its slot comes back here.
    "hog_threads": ("failed", "it did not shut down in time and was cancelled"),
    # A thread that never ends holds its job; what the count at the end finds is held by nothing.
    "release": ("success", "done"),
    "request_exit": ("rejected", "SystemExit: 5"),
    "request_raise": ("rejected", "LookupError: no such tenant"),
}
BLOCKS = ("block:1.5", "block_in_callback:1.5", "block_in_shutdown:1.5")


async def test_trouble_of_one_job_is_not_the_others(
    livekit_server: LiveKitServer, tmp_path: Path, room_name: str
) -> None:
    async with (
        voxray_app(livekit_server, tmp_path, PROGRAM, environment=ONE_HOST) as app,
        Dispatches(livekit_server) as dispatches,
        Neighbour(livekit_server, room_name) as neighbour,
    ):
        await dispatches.start(room_name, "echo")
        await neighbour.greeted()
        before = await neighbour.ask("before")
        assert before["executor"] == "THREAD"
        wrong = [
            told
            for number, (what, expected) in enumerate(TROUBLE.items())
            if (
                told := await make_trouble(
                    app, dispatches, neighbour, f"{room_name}-{number}", what, expected
                )
            )
        ]
        assert not wrong, "\n".join(wrong) + "\n" + app.output
        for number, what in enumerate(BLOCKS):
            await blocked_and_named(app, dispatches, f"{room_name}-b{number}", what)
            assert (await neighbour.ask(what))["pid"] == before["pid"]
        assert not await app.events("HostLost", "FailoverDone", "HostStartFailed")
        for batch in range(2):
            rooms = [f"{room_name}-s{batch}-{number}" for number in range(10)]
            await asyncio.gather(*(dispatches.start(room, "session") for room in rooms))
            for room in rooms:
                assert (await end_of_room(app, room))["outcome"] == "success"
        status = await app.until_status(lambda now: now["dispatchers"][0]["used"] == 1)
        assert status["dispatchers"][0]["reserved"] == 0
        (host,) = status["hosts"]
        assert host["pid"] == before["pid"]
        # Of all these jobs, those that left tasks and threads behind too, nothing is left.
        after = await neighbour.ask("count")
        assert after["tasks"] == before["tasks"]
        objects = after["objects"]
        alone = {"JobContext": 1, "JobTask": 1, "Room": 1, "JobDriver": 1, "TaskScope": 1}
        assert objects == alone | {"of echo": 1}, json.dumps(objects)


async def make_trouble(
    app: RunningApp,
    dispatches: Dispatches,
    neighbour: Neighbour,
    room: str,
    what: str,
    expected: tuple[str, str],
) -> str:
    """Run a job that makes trouble while the neighbour goes on; return what went wrong."""
    await dispatches.start(room, what)
    await neighbour.ask(f"during {what}")
    ended = await end_of_room(app, room)
    await neighbour.ask(f"after {what}")
    outcome, reason = expected
    if ended["outcome"] == outcome and reason in ended["reason"]:
        return ""
    return f"{what}: expected {expected}, got {(ended['outcome'], ended['reason'])}"


async def blocked_and_named(
    app: RunningApp, dispatches: Dispatches, room: str, what: str
) -> dict[str, Any]:
    """A blocked loop is reported with the job and its stack, its end with how long it was."""
    await dispatches.start(room, what)
    job_id = await job_of_room(app, room)
    blocked = await app.until_event("LoopBlocked", lambda event: event["job_id"] == job_id)
    assert "troublemaker.py" in blocked["where"]
    assert "in hold_the_loop: time.sleep(seconds)" in blocked["where"]
    freed = await app.until_event("LoopFreed", lambda event: event["job_id"] == job_id)
    # It was told of while it lasted.
    assert 0.5 <= blocked["seconds"] < freed["seconds"]
    assert blocked["seen_at"] < freed["seen_at"]
    ended = await end_of_room(app, room)
    assert ended["outcome"] == "success"
    story = await app.get(f"/jobs/{job_id}/story")
    causes = [entry["cause"] for entry in story["story"]]
    assert any("in hold_the_loop: time.sleep(seconds)" in cause for cause in causes), causes
    metrics = await app.get("/metrics")
    assert "voxray_loop_blocked_total" in metrics
    return blocked


async def test_a_process_for_each_call(
    livekit_server: LiveKitServer, tmp_path: Path, room_name: str
) -> None:
    environment = {
        "VOXRAY_HOSTS__ISOLATION": "process",
        "VOXRAY_HOSTS__MAX_HOSTS": "4",
        "TROUBLE_MEMORY_LIMIT_MB": "900",
    }
    async with (
        voxray_app(livekit_server, tmp_path, PROGRAM, environment=environment) as app,
        Dispatches(livekit_server) as dispatches,
        Neighbour(livekit_server, room_name) as neighbour,
    ):
        await dispatches.start(room_name, "echo")
        await neighbour.greeted()
        about = await neighbour.ask("who are you")
        assert about["executor"] == "PROCESS"
        status = await app.until_status(lambda now: spare(now) == 1)
        assert all(host["capacity"] == 1 for host in status["hosts"])
        # A job that eats memory is killed, and not begun again on the next host.
        greedy = f"{room_name}-greedy"
        await dispatches.start(greedy, "eat:900")
        ended = await end_of_room(app, greedy)
        assert ended["outcome"] == "failed"
        assert "over job_memory_limit_mb of 900 MB" in ended["reason"]
        placed = [e for e in await app.events("JobPlaced") if e["job_id"] == ended["job_id"]]
        assert [each["generation"] for each in placed] == [1]
        # Its end is a host's end too, and the next call gets a fresh one.
        quick = f"{room_name}-quick"
        await dispatches.start(quick, "quit")
        assert (await end_of_room(app, quick))["outcome"] == "success"
        retired = await app.until_event(
            "HostRetired", lambda event: event["host_id"] != placed[0]["host_id"]
        )
        assert retired["reason"] == "its one call is over"
        hosts = [each["host_id"] for each in await app.events("JobPlaced")]
        assert len(hosts) == len(set(hosts)) == 3
        assert (await neighbour.ask("still there"))["pid"] == about["pid"]
        assert not await app.events("FailoverDone")


def spare(status: dict[str, Any]) -> int:
    return sum(host["state"] == "ready" and not host["jobs"] for host in status["hosts"])
