"""What a frontend does and sees in a call with each program of `programs/documented/`.

Each function is one call, named after its program; `CALLS` finds it.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from livekit import rtc

from tests.frontend import BACKGROUND_TRACK, VOICE_TRACK, Frontend
from voxray.loadtest.speech import SPEECH_RATE
from voxray.loadtest.transcript import TRANSCRIPTION_TOPIC


@dataclass
class Place:
    """Where a call happens.

    Attributes:
        frontend: makes a participant of the room.
        home: where programs leave their files.
        left: files that a program has to leave in the end, and the check of each.
    """

    frontend: Callable[..., Frontend]
    room_name: str
    home: Path
    left: dict[str, Callable[[Any], None]] = field(default_factory=dict)


CALLS: dict[str, Callable[[Place], Awaitable[None]]] = {}


def program(call: Callable[[Place], Awaitable[None]]) -> Callable[[Place], Awaitable[None]]:
    CALLS[call.__name__] = call
    return call


@program
async def basic_agent(place: Place) -> None:
    async with place.frontend() as page:
        await page.switch_microphone_on()
        await page.hears("hello, how can i help you?")
        await page.ready()
        await page.speak("what is the weather in paris")
        await page.hears("it is sunny in paris.")
        assert page.understood == ["what is the weather in paris"]
        assert page.loud_share(VOICE_TRACK) > 0.1
        await page.ask("what about rome", "you said what about rome.")


@program
async def pipeline_example(place: Place) -> None:
    async with place.frontend() as page:
        await page.switch_microphone_on()
        await page.hears("what would you like to drink?")
        await page.ready()
        await page.speak("i would like two coffee please")
        await page.hears("two coffees, coming at once.")
        assert page.understood == ["i would like two coffee please"]


@program
async def lifecycle_hooks(place: Place) -> None:
    async with place.frontend() as page:
        await page.hears("welcome to the library.")
        await page.ready()
        await page.speak("please tell me a long story")
        await page.until(lambda: page.attribute("ignored") == "please tell me a long story")
        await page.speak("is there a train to berlin")
        await page.hears("Additional information: the is there a train to berlin opens at nine")
        assert len(page.said) == 2, "an answer in spite of StopResponse"
        await page.type("bye")
        await page.hears("goodbye from the library.")
        await page.hears("the door is on the left.")


@program
async def function_tools(place: Place) -> None:
    async with place.frontend() as page:
        await page.ready()
        await page.ask("weather in paris", "sunny it is.")
        await page.ask("weather on mars", "This location is not supported yet.")
        await page.ask("light please", "the light in the kitchen is on at 100")
        await page.ask("strange light", "validation")
        await page.ask("gate please", "gate loading_dock is open")
        await page.type("table")
        await page.hears("one moment, i am booking.")
        await page.hears("booked for 4.")


@program
async def userdata(place: Place) -> None:
    async with place.frontend() as page:
        await page.ready()
        await page.ask("my name is sam", "name sam age None")
        await page.ask("i am 30 years old", "name sam age 30")


@program
async def dynamic_tools(place: Place) -> None:
    async with place.frontend() as page:
        await page.ready()
        await page.ask("give me a number", "i can not use random_number.")
        await page.ask("manners", "You are polite.")
        await page.ask("open up", "you said unlocked.")
        await page.ask("give me a number", "the number is seven")
        await page.ask("manners", "You are rude.")
        await page.ask("close down", "you said locked.")
        await page.ask("give me a number", "i can not use random_number.")


def pitch_hz(frames: list[np.ndarray]) -> float:
    """Return the median pitch of the loud parts of a voice, by autocorrelation."""
    low, high = SPEECH_RATE // 400, SPEECH_RATE // 60
    pitches = []
    for at in range(0, len(frames) - 3, 3):
        part = np.concatenate(frames[at : at + 3]).astype(np.float64)
        if np.sqrt(np.mean(part**2)) < 1000:
            continue
        spectrum = np.fft.rfft(part - part.mean(), 2 * len(part))
        likeness = np.fft.irfft(np.abs(spectrum) ** 2)[low:high]
        pitches.append(SPEECH_RATE / (low + int(np.argmax(likeness))))
    return float(np.median(pitches))


@program
async def handoff(place: Place) -> None:
    async with place.frontend() as page:
        await page.hears("hello from the greeter.")
        await page.ready()
        first = len(page.frames[VOICE_TRACK])
        await page.speak("i would like to pay my bill")
        await page.hears("transferring you to billing")
        before = len(page.frames[VOICE_TRACK])
        await page.hears("hello from the billing office.")
        await page.ready()
        voices = page.frames[VOICE_TRACK]
        assert pitch_hz(voices[before:]) > 1.3 * pitch_hz(voices[:first])
        await page.ask(
            "what were my first words", "your first words were i would like to pay my bill."
        )
        await page.type("take me back")
        await page.hears("hello from the greeter.")


@program
async def agent_task(place: Place) -> None:
    async with place.frontend() as page:
        await page.hears("may i record this call?")
        await page.ready()
        await page.speak("yes you may record this call")
        await page.hears("thank you, how can i help?")
        await page.ready()
        await page.ask("yes you may", "i can not use consent_given.")


@program
async def task_group(place: Place) -> None:
    async with place.frontend() as page:
        await page.hears("what is your name?")
        await page.ready()
        await page.type("i am sam")
        await page.hears("which city?")
        await page.ready()
        await page.type("my name is wrong")
        await page.hears("what is your name?")
        await page.ready()
        await page.type("no i am kim")
        await page.hears("which city?")
        await page.ready()
        await page.type("i live in rome")
        await page.hears("kim lives in rome.")


@program
async def speech_control(place: Place) -> None:
    async with place.frontend(topics=("handles",)) as page:
        await page.switch_microphone_on()
        await page.ready()
        notice = asyncio.create_task(page.call("notice"))
        await page.until(lambda: page.state == "speaking")
        assert await page.call("stop") == "refused"
        await page.speak("please tell me a long story")
        assert await notice == "done"
        heard = await page.hears("this notice")
        assert heard.text.endswith("before the call goes on.")
        await page.until(lambda: page.told("handles") == ["notice interrupted: False"])
        # By the program, then by the caller's voice.
        await page.ready()
        await page.call("story")
        await page.until(lambda: page.state == "speaking")
        assert await page.call("stop") == "stopped"
        await page.until(lambda: len(page.told("handles")) == 2)
        await page.call("story")
        await page.until(lambda: page.state == "speaking")
        await page.speak("is there a train to berlin")
        await page.hears("you said is there a train to berlin.")
        await page.until(lambda: page.told("handles")[1:] == ["story interrupted: True"] * 2)
        assert not any("sentence 11" in segment.text for segment in page.said)


@program
async def session_events(place: Place) -> None:
    async with place.frontend(topics=("events",)) as page:

        def events(kind: str) -> list[dict[str, Any]]:
            told = map(json.loads, page.told("events"))
            return [event for event in told if event["type"] == kind]

        await page.switch_microphone_on()
        await page.hears("hello.")
        await page.ready()
        await page.speak("where is the nearest station")
        await page.hears("it is sunny in rome")
        await page.until(lambda: len(events("conversation_item_added")) == 3)
        items = [(item["role"], item["text"]) for item in events("conversation_item_added")]
        assert [role for role, _ in items] == ["assistant", "user", "assistant"]
        assert items[1] == ("user", "where is the nearest station")
        turn = events("conversation_item_added")
        assert turn[1]["turn"]["end_of_turn_delay"] > 0
        assert turn[2]["turn"]["llm_node_ttft"] > 0
        finals = [each["transcript"] for each in events("user_input_transcribed") if each["final"]]
        assert finals == ["where is the nearest station"]
        (tools,) = events("function_tools_executed")
        assert tools["tools"] == {"lookup_weather": "it is sunny in rome"}
        states = [each["new_state"] for each in events("agent_state_changed")]
        for state in ("listening", "thinking", "speaking"):
            assert state in states
        assert {each["new_state"] for each in events("user_state_changed")} >= {
            "speaking",
            "listening",
        }
        speeches = [(each["source"], each["user_initiated"]) for each in events("speech_created")]
        assert speeches[0] == ("say", True)
        assert ("generate_reply", True) in speeches
        metrics = {each["metrics"] for each in events("metrics_collected")}
        assert metrics >= {"llm_metrics", "tts_metrics", "eou_metrics"}, metrics
        assert events("session_usage_updated")

    def closed(close: Any) -> None:
        assert close == {"reason": "participant_disconnected", "error": None}

    place.left["close"] = closed


@program
async def user_away(place: Place) -> None:
    async with place.frontend() as page:
        await page.switch_microphone_on()
        await page.hears("are you still there?")
        await page.hears("are you still there?")
        await page.until(lambda: page.agent is None)


@program
async def error_handling(place: Place) -> None:
    async with place.frontend() as page:
        await page.ready()
        await page.ask("break", "i have trouble connecting right now.")
        await page.ask("go on", "you said go on.")
        await page.ask("break", "i have trouble connecting right now.")
        await page.type("collapse")
        await page.until(lambda: page.agent is None)

    def closed(close: Any) -> None:
        assert close == {"reason": "user_initiated"}

    place.left["close"] = closed


@program
async def pipeline_nodes(place: Place) -> None:
    async with place.frontend() as page:
        await page.ready()
        await page.speak("what is the weather in paris")
        await page.hears("node says: you said what is the weather in rome.")
        assert page.understood == ["what is the weather in rome"]
        await page.ready()
        first = len(page.levels[VOICE_TRACK])
        await page.ask("speak aloud", "this is the voice as it always is.")
        # What is still on its way belongs to the loud voice.
        await page.until(lambda: max(page.levels[VOICE_TRACK][-25:]) < -60)
        second = len(page.levels[VOICE_TRACK])
        await page.ask("speak softly", "whisper is the voice as it always is.")
        loud = max(page.levels[VOICE_TRACK][first:second])
        # A sixteenth of the amplitude is 24 dB less.
        assert max(page.levels[VOICE_TRACK][second:]) < loud - 15
        await page.ask("what is the secret", "the ******** is open.")


@program
async def text_only(place: Place) -> None:
    async with place.frontend() as page:
        await page.ready()
        answer = await page.ask("good morning", "you said good morning from caller.")
        assert "lk.transcribed_track_id" not in answer.attributes
        await page.ask("/shout hello", "HELLO")
        assert page.agent is not None
        assert not page.agent.track_publications


@program
async def data_streams(place: Place) -> None:
    topics = ("notes-back",)
    async with place.frontend(topics=topics, file_topics=("files-back",)) as page:
        await page.until(lambda: page.attribute("streams") == "ready")
        us = page.room.local_participant
        await us.send_text("one two three", topic="notes")
        await page.until(lambda: page.told("notes-back"))
        (note,) = page.texts["notes-back"]
        assert note.text == "eno owt eerht"
        assert note.attributes["of"] == "caller"
        content = bytes(range(256)) * 200  # More than one chunk.
        writer = await us.stream_bytes(name="photo", topic="files", total_size=len(content))
        await writer.write(content)
        await writer.aclose()
        await page.until(lambda: page.files["files-back"])
        assert page.files["files-back"] == [("copy of photo", content[::-1])]
        await us.publish_data(b"ping", topic="packets")
        await page.until(lambda: page.packets)
        assert page.packets == [("packets-back", b"PING")]


@program
async def rpc(place: Place) -> None:
    async with place.frontend() as page:
        asked: list[str] = []

        @page.room.local_participant.register_rpc_method("getUserLocation")
        async def get_user_location(data: rtc.RpcInvocationData) -> str:
            asked.append(data.payload)
            if len(asked) == 2:
                raise rtc.RpcError(1501, "no permission")
            return "at the north pole"

        await page.ready()
        assert await page.call("greet", "sam") == "hello sam (caller), it is listening"
        with pytest.raises(rtc.RpcError) as refusal:
            await page.call("greet")
        assert (refusal.value.code, refusal.value.message) == (1500, "who is it?")
        await page.ask("where am i", "at the north pole")
        assert asked == ['{"highAccuracy": true}']
        await page.ask("where am i", "unable to retrieve user location")


@program
async def background_thinking(place: Place) -> None:
    async with place.frontend() as page:
        await page.ready()
        await page.until(lambda: len(page.levels[BACKGROUND_TRACK]) > 25)
        assert page.loud_share(BACKGROUND_TRACK) == 0
        start = len(page.levels[BACKGROUND_TRACK])
        await page.ask("search the web", "nothing found about trains")
        assert page.loud_share(BACKGROUND_TRACK, start) > 0.1
        # The mixer's rest plays out; then it is silent again.
        end = len(page.levels[BACKGROUND_TRACK]) + 50
        await page.until(lambda: len(page.levels[BACKGROUND_TRACK]) > end + 25)
        assert page.loud_share(BACKGROUND_TRACK, end) == 0


@program
async def background_ambient(place: Place) -> None:
    async with place.frontend() as page:

        def level(since: int) -> float:
            return float(np.mean(page.levels[BACKGROUND_TRACK][since:]))

        async def frames(count: int) -> int:
            """Wait for so many frames more; return which was the first."""
            now = len(page.levels[BACKGROUND_TRACK])
            await page.until(lambda: len(page.levels[BACKGROUND_TRACK]) >= now + count)
            return now

        await page.ready()
        await frames(50)
        ambient = level(await frames(50))
        assert ambient > -65
        assert await page.call("play") == "playing"
        await frames(100)
        assert level(await frames(50)) > ambient + 6
        assert await page.call("stop") == "True"
        await frames(50)
        assert level(await frames(50)) < ambient + 6
        assert await page.call("close") == "closed"
        await page.until(
            lambda: (
                BACKGROUND_TRACK
                not in [each.name for each in page.agent.track_publications.values()]
            )
        )


@program
async def participant_state(place: Place) -> None:
    async with place.frontend() as page:
        await page.hears("hello sam, gold member.")
        await page.room.local_participant.set_attributes({"language": "fr"})
        await page.until(lambda: page.attribute("speaks") == "fr")
        async with place.frontend(identity="friend"):
            await page.until(lambda: page.agent.metadata == "friend came")
        await page.until(lambda: page.agent.metadata == "friend left")
        await page.switch_microphone_on()
        await page.until(lambda: page.attribute("published") == "caller")


@program
async def chat_history(place: Place) -> None:
    async with place.frontend() as page:
        await page.hears("hello again.")
        await page.ready()
        await page.ask("who am i", "the user is called sam")

    def kept(transcript: Any) -> None:
        messages = [item for item in transcript["items"] if item["type"] == "message"]
        assert [(item["role"], "".join(item["content"]).strip()) for item in messages] == [
            ("assistant", "hello again."),
            ("user", "who am i"),
            ("assistant", "the user is called sam"),
        ]

    def counted(report: Any) -> None:
        assert report["usage"]["llm_usage"]["output_tokens"] == 5
        assert report["usage"]["tts_usage"]["characters_count"] > 0

    place.left["transcript"] = kept
    place.left["usage"] = counted


async def speak_while_held(page: Frontend, words: str) -> None:
    """Speak, and hold the button until the words are on the screen.

    A button let go with the last word cuts off what the microphone and the network still hold,
    a third of a second; so it does under the stock worker.
    """
    await page.speak(words)
    await page.until(lambda: any(each.text == words for each in page.texts[TRANSCRIPTION_TOPIC]))


async def turn_ended(page: Frontend, words: str) -> str:
    """Let the button go; return what the agent heard meanwhile and answered.

    On a busy machine the recogniser takes a sentence for another one now and then, so what is
    held to is that one sentence was heard, none of what was said without the button.
    """
    heard = await page.call("end_turn")
    assert heard in (words, *PUSH_TO_TALK_MISTAKES)
    await page.hears(f"you said {heard}.")
    return heard


# Neither what is said before the button is held, nor what is cancelled.
PUSH_TO_TALK_MISTAKES = (
    "is there a train to berlin",
    "i would like to pay my bill",
    "open the window in the kitchen",
)


@program
async def push_to_talk(place: Place) -> None:
    async with place.frontend() as page:
        await page.switch_microphone_on()
        await page.until(lambda: page.attribute("button") == "ready")
        await page.ready()
        await page.speak("please tell me a long story")
        assert await page.call("start_turn") == "listening"
        await speak_while_held(page, "what is the weather in paris")
        first = await turn_ended(page, "what is the weather in paris")
        await page.ready()
        assert await page.call("start_turn") == "listening"
        await speak_while_held(page, "yes you may record this call")
        assert await page.call("cancel_turn") == "cancelled"
        assert await page.call("start_turn") == "listening"
        await speak_while_held(page, "where is the nearest station")
        last = await turn_ended(page, "where is the nearest station")
        assert first != last
        assert len(page.said) == 2, "an answer to what was said without the button, or cancelled"


@program
async def preemptive_generation(place: Place) -> None:
    async with place.frontend() as page:
        await page.ready()
        await page.speak("what is the weather in paris")
        await page.hears("you said what is the weather in paris.")
        await page.ready()
        answer = await page.ask("your steps", "turn completed")
        assert answer.text.startswith("generated, turn completed")


@program
async def false_interruption(place: Place) -> None:
    async with place.frontend(topics=("events",)) as page:
        await page.switch_microphone_on()
        await page.ready()
        await page.type("tell a story")
        await page.until(lambda: page.state == "speaking")
        await page.speak("please tell me a long story")
        await page.until(lambda: page.told("events") == ["resumed: True"])
        story = await page.hears("sentence 1")
        assert story.text.endswith("this is sentence 4 of the story.")


@program
async def tool_steps(place: Place) -> None:
    async with place.frontend() as page:
        await page.ready()
        await page.ask("count", "i can not use next_number.")
        await page.ask("how many", "there were 3.")


@program
async def text_transforms(place: Place) -> None:
    async with place.frontend() as page:
        await page.ready()
        answer = await page.ask("sing", "this is")
        assert answer.text == "this is very slow, says the interface."


@program
async def video_frames(place: Place) -> None:
    async with place.frontend() as page:
        await page.ready()
        await page.speak("open the window in the kitchen")
        await page.hears("i see nothing.")
        source = rtc.VideoSource(320, 240)
        track = rtc.LocalVideoTrack.create_video_track("camera", source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_CAMERA, simulcast=False)
        await page.room.local_participant.publish_track(track, options)
        blue = rtc.VideoFrame(
            320, 240, rtc.VideoBufferType.RGBA, bytes([20, 20, 230, 255]) * 320 * 240
        )

        async def film() -> None:
            while True:
                source.capture_frame(blue)
                await asyncio.sleep(0.1)  # The frame rate of the camera.

        camera = asyncio.create_task(film())
        try:
            await page.until(lambda: page.attribute("camera") == "seen")
            await page.speak("open the window in the kitchen")
            await page.hears("i see blue of 320 by 240.")
        finally:
            camera.cancel()
            await source.aclose()


@program
async def multi_user_transcriber(place: Place) -> None:
    async with place.frontend() as page, place.frontend(identity="friend") as friend:
        for each in (page, friend):
            await each.switch_microphone_on()
            await page.until(lambda who=each.identity: page.attribute(who) == "transcribed")
        ours, theirs = "what is the weather in paris", "open the window in the kitchen"
        await asyncio.gather(page.speak(ours), friend.speak(theirs))
        for each in (page, friend):
            await each.until(lambda who=each: who.understood)
        assert page.understood == [ours]
        assert friend.understood == [theirs]
        # Each sees the other's words too, under the other's name.
        await page.until(lambda: any(each.text == theirs for each in page.said))
        assert {each.speaker for each in page.said} == {"friend"}


@program
async def async_tool(place: Place) -> None:
    async with place.frontend() as page:
        await page.ready()
        await page.type("fly to rome")
        await page.hears("i am looking.")
        await page.type("what time is it")
        await page.hears("it is noon.")
        await page.hears("booked seat 12 to rome")


@program
async def end_call(place: Place) -> None:
    async with place.frontend() as page:
        await page.ready()
        await page.type("hang up")
        await page.hears("goodbye, and thank you.")
        await page.until(lambda: not page.room.isconnected())
