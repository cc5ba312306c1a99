"""The plugins with the real engines in this process: what is said is heard."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest
from livekit import rtc
from livekit.agents import (
    Agent,
    AgentSession,
    APIConnectionError,
    APIStatusError,
    inference,
    metrics,
    stt,
    vad,
)

import voxray
from tests.fakes.session_io import AudioFromTest, AudioToTest, RepeatingLLM
from voxray.pipelines import runtime

TICKET = "what is the price of a ticket"
TRAIN = "when does the next train leave"
GRAMMAR = f"#JSGF V1.0; grammar station; public <question> = {TICKET} | {TRAIN};"
FRAME_S = 0.02


@pytest.fixture(scope="module", autouse=True)
def _engines() -> Iterator[None]:
    """All tests share the engines of the process; in the end nothing of them is left."""
    runtime.shutdown()
    yield
    runtime.shutdown()
    left = [thread.name for thread in threading.enumerate() if "engine" in thread.name]
    assert left == []


@pytest.fixture(autouse=True)
async def _no_task_is_left() -> AsyncIterator[None]:
    yield
    await runtime.current().aclose()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def spoken(text: str, rate: int | None = None) -> rtc.AudioFrame:
    voice = voxray.TTS() if rate is None else voxray.TTS(sample_rate=rate)
    async with voice.synthesize(text) as stream:
        return await stream.collect()


def silence(seconds: float, rate: int) -> rtc.AudioFrame:
    count = int(seconds * rate)
    return rtc.AudioFrame(
        data=bytes(2 * count), sample_rate=rate, num_channels=1, samples_per_channel=count
    )


def in_frames(*parts: rtc.AudioFrame) -> list[rtc.AudioFrame]:
    """Cut audio as a room would hand it in."""
    rate = parts[0].sample_rate
    samples = np.concatenate([part.data for part in parts])
    size = int(FRAME_S * rate)
    return [
        rtc.AudioFrame(
            data=samples[start : start + size].tobytes(),
            sample_rate=rate,
            num_channels=1,
            samples_per_channel=len(samples[start : start + size]),
        )
        for start in range(0, len(samples), size)
    ]


async def conversation(rate: int | None = None) -> list[rtc.AudioFrame]:
    """Two questions with silence around them."""
    ticket, train = await spoken(TICKET, rate), await spoken(TRAIN, rate)
    pause = silence(0.8, ticket.sample_rate)
    return in_frames(pause, ticket, pause, train, pause)


async def recognized(recognizer: stt.STT, frames: list[rtc.AudioFrame]) -> list[stt.SpeechEvent]:
    async with recognizer.stream() as stream:
        for frame in frames:
            stream.push_frame(frame)
        stream.end_input()
        return [event async for event in stream]


async def detected(detector: vad.VAD, frames: list[rtc.AudioFrame]) -> list[vad.VADEvent]:
    stream = detector.stream()
    for frame in frames:
        stream.push_frame(frame)
    stream.end_input()
    events = [event async for event in stream]
    await stream.aclose()
    return events


async def test_the_recognizer_hears_what_the_voice_says() -> None:
    recognizer = voxray.STT(grammar=GRAMMAR)
    said = await conversation()
    events = await recognized(recognizer, said)

    finals = [event for event in events if event.type == "final_transcript"]
    assert [event.alternatives[0].text for event in finals] == [TICKET, TRAIN]
    first, second = (event.alternatives[0] for event in finals)
    assert 0.7 < first.start_time < 1.2
    assert first.start_time + 1 < first.end_time < second.start_time
    kinds = [
        event.type
        for event in events
        if event.type not in ("interim_transcript", "recognition_usage")
    ]
    assert kinds == ["start_of_speech", "final_transcript", "end_of_speech"] * 2
    assert any(event.type == "interim_transcript" for event in events)
    usage = sum(e.recognition_usage.audio_duration for e in events if e.recognition_usage)
    assert usage == pytest.approx(sum(frame.duration for frame in said))
    assert recognizer.model == "pocketsphinx-en-us"


async def test_a_flush_has_the_transcript_at_once() -> None:
    recognizer = voxray.STT(grammar=GRAMMAR, min_silence_duration=5.0)
    async with recognizer.stream() as stream:
        for frame in in_frames(await spoken(TRAIN)):
            stream.push_frame(frame)
        stream.flush()
        # The input goes on: only the flush can have brought it.
        async for event in stream:
            if event.type == "final_transcript":
                break

    assert event.alternatives[0].text == TRAIN


async def test_a_recording_is_recognized_whole() -> None:
    event = await voxray.STT(grammar=GRAMMAR).recognize(await conversation(rate=48_000))

    assert event.alternatives[0].text == f"{TICKET} {TRAIN}"


@pytest.mark.parametrize("rate", [16_000, 22_050, 24_000, 48_000])
async def test_speech_is_detected_as_the_bundled_vad_detects_it(rate: int) -> None:
    frames = await conversation(rate)
    ours = await detected(voxray.VAD(), frames)
    theirs = await detected(inference.VAD(), frames)

    def edges(events: list[vad.VADEvent]) -> list[vad.VADEvent]:
        return [event for event in events if event.type != "inference_done"]

    assert [event.type for event in edges(ours)] == [event.type for event in edges(theirs)]
    assert len(edges(ours)) >= 4
    # The resamplers differ: an edge may fall into the window beside.
    window_s = 0.033
    for mine, other in zip(edges(ours), edges(theirs), strict=True):
        assert mine.timestamp == pytest.approx(other.timestamp, abs=window_s)
        assert mine.speech_duration == pytest.approx(other.speech_duration, abs=2 * window_s)
        assert mine.silence_duration == pytest.approx(other.silence_duration, abs=window_s)
        (frame,), (other_frame,) = mine.frames, other.frames
        assert frame.sample_rate == rate
        assert frame.duration == pytest.approx(other_frame.duration, abs=2 * window_s)
    counts = [len(events) - len(edges(events)) for events in (ours, theirs)]
    assert abs(counts[0] - counts[1]) <= 1


async def test_the_frames_of_speech_can_be_recognized() -> None:
    """What a stream adapter does: detect first, then recognize the frames of the speech."""
    events = await detected(voxray.VAD(min_silence_duration=0.5), await conversation())
    speeches = [event.frames for event in events if event.type == "end_of_speech"]
    recognizer = voxray.STT(grammar=GRAMMAR)

    said = [(await recognizer.recognize(frames)).alternatives[0].text for frames in speeches]
    assert said == [TICKET, TRAIN]


async def test_many_calls_at_once_are_kept_apart() -> None:
    audio = {text: in_frames(await spoken(text)) for text in (TICKET, TRAIN)}
    recognizer = voxray.STT(grammar=GRAMMAR)
    order = [TICKET, TRAIN, TRAIN, TICKET, TRAIN, TICKET]
    calls = await asyncio.gather(*(recognized(recognizer, audio[text]) for text in order))

    heard = [
        [event.alternatives[0].text for event in events if event.type == "final_transcript"]
        for events in calls
    ]
    assert heard == [[text] for text in order]


def test_two_event_loops_use_the_same_engines() -> None:
    heard: list[str] = []

    async def call() -> None:
        event = await voxray.STT(grammar=GRAMMAR).recognize(await spoken(TRAIN))
        heard.append(event.alternatives[0].text)

    threads = [threading.Thread(target=lambda: asyncio.run(call())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert heard == [TRAIN, TRAIN]


async def test_a_wrong_grammar_is_explained_and_not_tried_again() -> None:
    recognizer = voxray.STT(grammar="#JSGF V1.0; grammar g; public <g> = one | ;; two")
    errors: list[stt.STTError] = []
    recognizer.on("error", errors.append)
    with pytest.raises(APIStatusError, match="grammar"):
        await recognizer.recognize(silence(0.1, 16_000))

    assert [error.recoverable for error in errors] == [False]


async def test_a_missing_voice_and_a_missing_engine_are_explained() -> None:
    with pytest.raises(APIStatusError, match="dothraki"):
        async with voxray.TTS(voice="dothraki").synthesize("hello") as stream:
            await stream.collect()
    with pytest.raises(APIStatusError, match="no engine is called 'nobody'"):
        await voxray.STT(engine="nobody").recognize(silence(0.1, 16_000))


async def test_a_closed_client_fails_for_good() -> None:
    await runtime.current().aclose()
    with pytest.raises(APIConnectionError, match="closed"):
        await voxray.STT(grammar=GRAMMAR).recognize(silence(0.1, 16_000))


async def test_speech_starts_before_it_is_all_made() -> None:
    voice = voxray.TTS()
    seen: list[metrics.TTSMetrics] = []
    voice.on("metrics_collected", seen.append)
    async with voice.synthesize(f"{TRAIN}? {TICKET}? " * 5) as stream:
        frames = [event.frame async for event in stream]

    assert len(frames) > 10
    assert seen[0].ttfb < seen[0].duration
    assert seen[0].audio_duration > 10


async def test_a_session_without_a_room_answers_by_voice() -> None:
    mind = RepeatingLLM(lambda asked: TICKET if "train" in asked else TRAIN)
    ears, mouth = AudioFromTest(), AudioToTest()
    session: AgentSession[None] = AgentSession(
        vad=voxray.VAD(),
        # Audio comes faster than time here: the words must wait for the VAD's word, as they do in
        # a call, and so they come by the flush that the session asks for.
        stt=voxray.STT(grammar=GRAMMAR, min_silence_duration=5.0),
        llm=mind,
        tts=voxray.TTS(),
        turn_handling={"turn_detection": "vad", "endpointing": {"min_delay": 0.0}},
    )
    session.input.audio, session.output.audio = ears, mouth
    await session.start(agent=Agent(instructions="repeat"))
    recognizer = voxray.STT(grammar=GRAMMAR)
    heard = []
    for question in (TRAIN, TICKET):
        said = await spoken(question)
        ears.say(in_frames(silence(0.3, said.sample_rate), said, silence(1.0, said.sample_rate)))
        answer = await recognizer.recognize(await mouth.heard())
        heard.append(answer.alternatives[0].text)
    await session.aclose()

    assert mind.asked == [TRAIN, TICKET]
    assert heard == [TICKET, TRAIN]


class PushToTalk:
    """A session whose turns are committed by hand; audio comes in faster than time."""

    def __init__(self) -> None:
        self.ears = AudioFromTest()
        self.session: AgentSession[None] = AgentSession(
            vad=voxray.VAD(),
            stt=voxray.STT(grammar=GRAMMAR),
            llm=RepeatingLLM(lambda asked: asked),
            turn_handling={"turn_detection": "manual"},
        )
        self.session.input.audio = self.ears

    async def __aenter__(self) -> "PushToTalk":
        await self.session.start(agent=Agent(instructions="repeat"))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.aclose()

    async def say(self, *parts: rtc.AudioFrame) -> None:
        """Return as soon as the session has taken the last frame; nothing of it is heard yet."""
        self.ears.say(in_frames(*parts))
        await self.ears.taken()

    async def commit(self) -> str:
        # Far longer than the test may take: only the transcript itself can end the wait.
        async with asyncio.timeout(60):
            return await self.session.commit_user_turn(transcript_timeout=600)


async def test_a_turn_committed_with_its_last_word_has_all_its_words() -> None:
    async with PushToTalk() as call:
        for words in (TRAIN, TICKET):
            call.session.clear_user_turn()
            await call.say(await spoken(words))
            assert await call.commit() == words


async def test_a_cancelled_turn_leaves_nothing_to_the_next() -> None:
    async with PushToTalk() as call:
        # Cancelled with its last word, and in the middle of one.
        whole = await spoken(TRAIN)
        for said in (whole, *in_frames(whole)[:1]):
            await call.say(said)
            call.session.clear_user_turn()
            await call.say(await spoken(TICKET))
            assert await call.commit() == TICKET
        await call.say(whole)
        call.session.clear_user_turn()
        assert await call.commit() == ""


async def test_a_turn_without_a_word_is_committed_at_once() -> None:
    async with PushToTalk() as call:
        await call.say(silence(0.5, 22_050))
        assert await call.commit() == ""
        call.session.clear_user_turn()
        # The engine ends this by itself: the flush finds nothing more.
        await call.say(await spoken(TRAIN), silence(2.0, 22_050))
        assert await call.commit() == TRAIN
