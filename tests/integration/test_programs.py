"""Programs that nobody changed run by `voxray start`: in both forms, and with their faults."""

from pathlib import Path

import pytest
from livekit import api

from tests.running_app import PROGRAMS, voxray_app
from voxray.loadtest.access import LiveKitAccess
from voxray.loadtest.call import CallObserver, CallPlan, run_call
from voxray.loadtest.caller import Patience
from voxray.loadtest.livekit_server import LiveKitServer
from voxray.loadtest.questions import Question
from voxray.loadtest.speech import speak_all

pytestmark = pytest.mark.timeout(240)


def access_to(server: LiveKitServer) -> LiveKitAccess:
    return LiveKitAccess(url=server.url, api_key=server.api_key, api_secret=server.api_secret)


def says(words: str) -> Question:
    return Question(say=words, expect=tuple(words.split()))


async def call(server: LiveKitServer, room: str, *words: str) -> list[str]:
    """Call, say the words, and return the answers; every one must be right."""
    plan = CallPlan(
        access=access_to(server),
        room=room,
        questions=[says(each) for each in words],
        speech=await speak_all(words),
    )
    result = await run_call(plan, CallObserver())
    assert not result.error, result.error
    assert result.greeted
    for turn in result.turns:
        assert turn.correct, (turn.question.say, turn.exchange)
    return [turn.exchange.answer for turn in result.turns]


async def close_room(server: LiveKitServer, room: str) -> None:
    """End a room now; LiveKit itself waits 20 s for its caller to come back."""
    async with api.LiveKitAPI(server.url, server.api_key, server.api_secret) as livekit:
        await livekit.room.delete_room(api.DeleteRoomRequest(room=room))


@pytest.mark.parametrize("program", ["quickstart.py", "quickstart_worker_options.py"])
async def test_a_first_program_runs_unchanged(
    livekit_server: LiveKitServer, tmp_path: Path, room_name: str, program: str
) -> None:
    async with voxray_app(livekit_server, tmp_path, PROGRAMS / program) as app:
        answers = await call(livekit_server, room_name, "green river", "yellow window")
        assert answers == ["you said green river.", "you said yellow window."]
        await close_room(livekit_server, room_name)
        ended = await app.until_event("JobEnded")
        assert ended["outcome"] == "success", ended


async def test_an_entrypoint_that_raises_ends_its_own_job_only(
    livekit_server: LiveKitServer, tmp_path: Path, room_name: str
) -> None:
    async with voxray_app(livekit_server, tmp_path, PROGRAMS / "unruly.py") as app:
        plan = CallPlan(
            access=access_to(livekit_server),
            room=f"bad-{room_name}",
            questions=[says("red house")],
            speech=await speak_all(["red house"]),
            patience=Patience(agent_s=3.0),
        )
        assert (await run_call(plan, CallObserver())).error
        bad = await app.until_event("JobEnded")
        assert bad["outcome"] == "failed"
        assert "RuntimeError: this room is not to my taste" in bad["reason"]
        assert await call(livekit_server, room_name, "blue garden") == ["you said blue garden."]
        story = await app.get(f"/jobs/{bad['job_id']}/story")
        assert "not to my taste" in str(story)


async def test_calls_that_follow_one_another_share_the_host_and_its_connection(
    livekit_server: LiveKitServer, tmp_path: Path, room_name: str
) -> None:
    one_host = {"VOXRAY_HOSTS__MAX_HOSTS": "1"}
    async with voxray_app(
        livekit_server, tmp_path, PROGRAMS / "quickstart.py", environment=one_host
    ) as app:
        for number, words in enumerate(("green river", "yellow window", "red house")):
            assert await call(livekit_server, f"{room_name}-{number}", words) == [
                f"you said {words}."
            ]
            await close_room(livekit_server, f"{room_name}-{number}")
            # What the call that ended had started must not be what the next one needs.
            await app.until_status(lambda status: not any(h["jobs"] for h in status["hosts"]))
        hosts = {event["host_id"] for event in await app.events("JobPlaced")}
        assert len(hosts) == 1
        # A replica tells how many streams it has once a second.
        await app.until_status(lambda status: [r["streams"] for r in status["replicas"]] == [0])
