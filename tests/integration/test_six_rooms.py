"""Six calls at once: one host, one set of models, batched; every caller gets its own answers."""

import random
import re
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.running_app import RunningApp, voxray_app
from voxray.loadtest.access import LiveKitAccess
from voxray.loadtest.example import load_destinations
from voxray.loadtest.livekit_server import LiveKitServer
from voxray.loadtest.load import LoadPlan, run_load
from voxray.loadtest.questions import timetable_questions

pytestmark = pytest.mark.timeout(300)
ROOMS = 6
_SAMPLE = re.compile(r"^(\w+)(?:\{([^}]*)\})? (\S+)$", re.MULTILINE)


def samples(page: str) -> dict[tuple[str, str], float]:
    """Return a metrics page as values by name and labels."""
    return {(name, labels): float(value) for name, labels, value in _SAMPLE.findall(page)}


async def pages(app: RunningApp) -> dict[str, dict[tuple[str, str], float]]:
    """Scrape everything that the service discovery lists, as Prometheus would; by role."""
    found: dict[str, dict[tuple[str, str], float]] = {}
    async with aiohttp.ClientSession() as session:
        for group in await app.get("/sd"):
            for target in group["targets"]:
                assert urlsplit(f"//{target}").port
                async with session.get(f"http://{target}/metrics") as response:
                    assert response.status == 200
                    found.setdefault(group["labels"]["role"], {}).update(
                        samples(await response.text())
                    )
    return found


async def test_six_rooms_at_once(livekit_server: LiveKitServer, tmp_path: Path) -> None:
    access = LiveKitAccess(
        url=livekit_server.url,
        api_key=livekit_server.api_key,
        api_secret=livekit_server.api_secret,
    )
    async with voxray_app(livekit_server, tmp_path) as app:
        plan = LoadPlan(
            access=access,
            rooms=ROOMS,
            turns=2,
            questions=timetable_questions(load_destinations(), random.Random(6)),
        )
        result = await run_load(plan)
        status = await app.status()
        assert result.missing == 0, [call.error for call in result.calls]
        wrong = [(turn.question, turn.exchange) for turn in result.turns if not turn.correct]
        assert not wrong
        assert not any(turn.mixed_up for turn in result.turns)

        hosts = {event["host_id"] for event in await app.events("JobPlaced")}
        assert len(hosts) == 1, "six calls fit on one host"
        assert len(status["replicas"]) == 1
        assert status["replicas"][0]["engines"] == ["silero", "pocketsphinx", "espeak"]

        found = await pages(app)
        replica, dispatcher = found["replica"], found["dispatcher"]
        for engine in ("silero", "pocketsphinx", "espeak"):
            assert replica["voxray_inference_batch_size_count", f'engine="{engine}"'] > 0
        batches = replica["voxray_inference_batch_size_count", 'engine="silero"']
        alone = replica["voxray_inference_batch_size_bucket", 'engine="silero",le="1.0"']
        assert batches > alone, "no two windows of different calls ever shared a batch"
        assert dispatcher["voxray_job_offers_total", ""] == ROOMS
        assert dispatcher["voxray_job_answers_total", 'outcome="accepted"'] == ROOMS
        turns = sum(
            value for (name, _), value in dispatcher.items() if name == "voxray_turns_total"
        )
        assert turns == ROOMS * 2
        assert dispatcher["voxray_turn_seconds_count", 'agent=""'] == ROOMS * 2
        assert found["host"]

        # The rooms empty; every slot comes back.
        status = await app.until_status(lambda now: now["dispatchers"][0]["used"] == 0)
        assert not any(host["jobs"] for host in status["hosts"])
