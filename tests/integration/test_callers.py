"""Synthetic callers on a real LiveKit server."""

import asyncio
import wave

import numpy as np
import pytest

from tests.fakes.rtc_agent import RtcAgent
from voxray.base.errors import ConnectionFailedError, DeadlineError
from voxray.loadtest.access import LiveKitAccess
from voxray.loadtest.call import CallObserver, CallPlan, run_call
from voxray.loadtest.caller import Caller, Patience
from voxray.loadtest.questions import Question
from voxray.loadtest.recording import Recording, Side
from voxray.loadtest.speech import SPEECH_RATE, speak_all
from voxray.loadtest.turn_clock import Outcome

QUESTIONS = (
    Question(say="Is there a train?", expect=("platform four",)),
    Question(say="How long does it take?", expect=("an hour",)),
)
HURRIED = Patience(agent_s=0.5, greeting_s=0.5, answer_s=0.5)


@pytest.fixture
def access(livekit_server):
    return LiveKitAccess(
        url=livekit_server.url,
        api_key=livekit_server.api_key,
        api_secret=livekit_server.api_secret,
    )


async def plan(access, room, **changes):
    speech = await speak_all(question.say for question in QUESTIONS)
    return CallPlan(access=access, room=room, questions=QUESTIONS, speech=speech, **changes)


async def test_a_call(access, room_name, tmp_path):
    recording = Recording(SPEECH_RATE)
    answers = [("is there a train", "From platform 4."), ("how long", "Two days.")]
    async with RtcAgent(access, room_name, "Hello.", answers):
        call = await run_call(await plan(access, room_name, recording=recording), CallObserver())
    assert call.error == ""
    assert call.greeted
    assert call.joined.agent_joined_s <= call.joined.agent_audible_s
    first, second = call.turns
    assert first.exchange.outcome is Outcome.ANSWERED
    assert first.exchange.heard == "is there a train"
    assert first.exchange.answer == "From platform 4."
    assert first.understood
    assert first.correct
    # The agent waits for a silence of 0.7 s before it takes a question for over.
    assert first.exchange.latency_s > 0.7
    assert second.answered
    assert not second.understood
    assert not second.correct
    recording.write(tmp_path / "call.wav")
    with wave.open(str(tmp_path / "call.wav")) as file:
        sides = np.frombuffer(file.readframes(file.getnframes()), dtype=np.int16).reshape(-1, 2)
    assert np.abs(sides[:, Side.CALLER]).max() > 1000
    assert np.abs(sides[:, Side.AGENT]).max() > 1000


async def test_missing_answer(access, room_name):
    patience = Patience(answer_s=1.5)
    async with RtcAgent(access, room_name, "Hello.", []):
        call = await run_call(await plan(access, room_name, patience=patience), CallObserver())
    assert [turn.exchange.outcome for turn in call.turns] == [Outcome.MISSING] * 2
    assert not any(turn.answered or turn.correct for turn in call.turns)


async def test_no_greeting_is_told_and_the_call_goes_on(access, room_name):
    async with RtcAgent(access, room_name, "", [("", "From platform 4.")]):
        caller = Caller(access, room_name, patience=Patience(greeting_s=0.5))
        try:
            await caller.join()
            assert not await caller.hear_greeting()
        finally:
            await caller.aclose()


async def test_no_agent(access, room_name):
    caller = Caller(access, room_name, patience=HURRIED)
    with pytest.raises(DeadlineError, match="no agent came"):
        await caller.join()
    await caller.aclose()


async def test_no_agent_is_a_result_of_a_whole_call(access, room_name):
    call = await run_call(await plan(access, room_name, patience=HURRIED), CallObserver())
    assert "no agent came" in call.error
    assert call.joined is None
    assert call.turns == ()
    assert call.asked == 2


async def test_wrong_keys(access, room_name):
    wrong = LiveKitAccess(url=access.url, api_key=access.api_key, api_secret="x" * 40)
    caller = Caller(wrong, room_name)
    with pytest.raises(ConnectionFailedError, match="can't join"):
        await caller.join()
    await caller.aclose()


async def test_hanging_up_in_the_middle_of_a_question(access, room_name):
    async with RtcAgent(access, room_name, "Hello.", [("", "From platform 4.")]):
        caller = Caller(access, room_name)
        await caller.join()
        samples = (await speak_all(["How long does the train to London take today?"])).popitem()[1]
        asking = asyncio.create_task(caller.ask(samples))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait({asking})
        assert asking.cancelled()
        await caller.aclose()
        await caller.aclose()


async def test_caller_that_never_joined_can_be_closed(access, room_name):
    await Caller(access, room_name).aclose()
