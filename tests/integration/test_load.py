"""Many callers at once, on a real LiveKit server."""

import asyncio
import json
import random
import sys

import pytest
from pydantic import SecretStr

from tests.fakes.stock_worker import stock_worker
from voxray.base.errors import ConfigError
from voxray.base.settings import LiveKitSettings, Settings
from voxray.loadtest.access import LiveKitAccess
from voxray.loadtest.call import CallObserver
from voxray.loadtest.caller import Patience
from voxray.loadtest.example import example_program, load_destinations
from voxray.loadtest.load import LoadPlan, run_load
from voxray.loadtest.questions import timetable_questions

QUESTIONS = timetable_questions(load_destinations(), random.Random(3))


@pytest.fixture
def access(livekit_server):
    return LiveKitAccess(
        url=livekit_server.url,
        api_key=livekit_server.api_key,
        api_secret=livekit_server.api_secret,
    )


class Counter(CallObserver):
    def __init__(self):
        self.ends = []

    def ended(self, result):
        self.ends.append(result.room)


async def test_rooms_without_an_agent(access):
    plan = LoadPlan(
        access=access, rooms=3, turns=2, questions=QUESTIONS, patience=Patience(agent_s=0.5)
    )
    counter = Counter()
    result = await run_load(plan, counter)
    assert result.missing == 6
    assert [call.joined for call in result.calls] == [None] * 3
    assert all("no agent came" in call.error for call in result.calls)
    assert sorted(counter.ends) == sorted(call.room for call in result.calls)
    assert len(set(counter.ends)) == 3


@pytest.mark.parametrize("changes", [{"rooms": 0}, {"turns": 0}, {"questions": ()}])
async def test_plan_of_nothing(access, changes):
    plan = {"access": access, "rooms": 1, "turns": 1, "questions": QUESTIONS} | changes
    with pytest.raises(ConfigError, match="at least one"):
        await run_load(LoadPlan(**plan))


async def test_command_against_the_stock_worker(livekit_server):
    livekit = LiveKitSettings(
        url=livekit_server.url,
        api_key=livekit_server.api_key,
        api_secret=SecretStr(livekit_server.api_secret),
    )
    settings = Settings(livekit=livekit)
    async with stock_worker(example_program(), settings, lambda _: None):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            "from voxray.cli.loadtest import loadtest; loadtest()",
            *("--url", livekit.url, "--api-key", livekit.api_key),
            *("--api-secret", livekit_server.api_secret),
            *("--rooms", "2", "--turns", "2", "--seed", "4", "--json"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, progress = await asyncio.wait_for(process.communicate(), 100)
    assert process.returncode == 0, progress.decode()
    result = json.loads(output)
    assert result["totals"]["correct"] == 4
    assert result["missing"] == 0
    assert result["mixed_up"] == 0
    assert result["agent_audible_s"]["count"] == 2
    assert len({turn["said"] for call in result["calls"] for turn in call["turns"]}) == 4
    assert livekit_server.api_secret not in progress.decode()
