"""The real espeak-ng."""

import subprocess
import sys
import threading

import numpy as np
import pytest

from voxray.base.errors import EngineConfigError
from voxray.pipelines.engines.base import EndOfInput, FlushInput, TextInput
from voxray.pipelines.engines.espeak_library import espeak_library
from voxray.pipelines.engines.espeak_tts import (
    SAMPLE_RATE,
    EspeakEngine,
    Voice,
    synthesize,
    voices,
)

# espeak-ng varies each utterance a little (flutter): lengths are compared, not samples.
SENTENCE = "The next train to Berlin leaves at ten past nine."


@pytest.fixture
def tts(bench):
    return bench(EspeakEngine())


def test_the_rate_is_what_the_engine_says(tts):
    assert espeak_library().sample_rate == tts.engine.info.sample_rate == SAMPLE_RATE


def test_speech_comes_in_pieces_and_makes_up_the_whole(tts):
    outputs = tts.run(tts.open(), TextInput(SENTENCE))
    assert len(outputs) > 10
    assert max(len(output.samples) for output in outputs) < SAMPLE_RATE / 10
    whole = np.concatenate([output.samples for output in outputs])
    assert 2.0 < len(whole) / SAMPLE_RATE < 5.0
    assert len(whole) == pytest.approx(len(synthesize(SENTENCE)), rel=0.02)
    assert np.abs(whole).max() > 3000


def test_texts_are_spoken_in_order_and_nothing_is_held_back(tts):
    session = tts.open()
    first = tts.run(session, TextInput("yes"))
    assert tts.run(session, FlushInput(), EndOfInput()) == []
    both = tts.run(session, TextInput("yes"), TextInput(SENTENCE))
    sounds = [np.concatenate([output.samples for output in outputs]) for outputs in (first, both)]
    expected = len(sounds[0]) + len(synthesize(SENTENCE))
    assert len(sounds[1]) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("text", ["", "   ", "\n\t", "\0"])
def test_nothing_to_say_is_no_sound(tts, text):
    assert tts.run(tts.open(), TextInput(text)) == []


def test_a_nul_does_not_end_the_text():
    assert len(synthesize("one\0two three four")) > 1.5 * len(synthesize("one"))


def test_odd_text_is_spoken_or_left_and_never_fails(tts):
    session = tts.open()
    for text in ("\ud800", "<speak>", "[[h@l'oU]]", "🚂" * 50, "a" * 3000):
        tts.run(session, TextInput(text))
    assert tts.run(session, TextInput("yes"))


def pitch(samples):
    """The strongest fundamental between 60 and 400 Hz, by autocorrelation."""
    wave = samples.astype(np.float64)
    spectrum = np.fft.rfft(wave, 2 * len(wave))
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)
    shortest, longest = SAMPLE_RATE // 400, SAMPLE_RATE // 60
    return SAMPLE_RATE / (shortest + int(np.argmax(correlation[shortest:longest])))


def test_rate_pitch_volume_and_voice_are_heard():
    normal = synthesize(SENTENCE)
    assert len(synthesize(SENTENCE, Voice(rate=300))) < 0.75 * len(normal)
    quiet = synthesize(SENTENCE, Voice(volume=20))
    assert np.abs(quiet).max() < 0.5 * np.abs(normal).max()
    high = synthesize(SENTENCE, Voice(pitch=99))
    assert pitch(high) > 1.2 * pitch(normal)
    assert pitch(synthesize(SENTENCE, Voice(voice="en-us+f3"))) > 1.2 * pitch(normal)
    # The settings of one never stay for the next.
    again = synthesize(SENTENCE)
    assert pitch(again) == pytest.approx(pitch(normal), rel=0.05)
    assert len(again) == pytest.approx(len(normal), rel=0.02)


@pytest.mark.parametrize("voice", ["en", "en-US", "en-gb", "fr-fr", "de+m2", "English (America)"])
def test_voices_go_by_file_language_and_title(tts, voice):
    assert tts.run(tts.open(voice=voice), TextInput("ja"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"voice": "klingonese"}, "no voice 'klingonese'"),
        ({"voice": "enx"}, r"no voice 'enx'; there are .*en-029"),
        ({"voice": "en+nobody"}, "no variant 'nobody' of voice 'en'"),
        ({"voice": ""}, "no voice ''"),
        ({"voice": 5}, "option voice must be str"),
        ({"rate": 1000}, "rate must be 80 to 450"),
        ({"pitch": -1}, "pitch must be 0 to 99"),
        ({"volume": 201}, "volume must be 0 to 200"),
        ({"speed": 2}, "unknown option: speed"),
    ],
)
def test_faults_are_named_when_the_stream_opens(tts, options, message):
    with pytest.raises(EngineConfigError, match=message):
        tts.open(**options)


def test_all_names_are_listed():
    assert {"en-us", "en-gb", "de", "fr-fr"} <= set(voices())


def test_cancelling_stops_a_long_text_early(tts):
    heard = []
    item_cancelled = lambda: len(heard) >= 3  # noqa: E731 - it reads what the loop below fills
    espeak_library().synthesize(SENTENCE * 100, Voice(), heard.append, item_cancelled)
    assert len(heard) == 3


def test_a_listener_that_raises_stops_the_speech_and_is_heard():
    def broken(_):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        espeak_library().synthesize(SENTENCE, Voice(), broken, lambda: False)
    assert len(synthesize("yes")) > 0


def test_threads_take_turns_and_voices_do_not_mix():
    wanted = [Voice(rate=rate) for rate in (120, 170, 250, 350)]
    alone = [synthesize(SENTENCE, voice) for voice in wanted]
    together = [None] * len(wanted)

    def speak(number):
        together[number] = synthesize(SENTENCE, wanted[number])

    threads = [threading.Thread(target=speak, args=(number,)) for number in range(len(wanted))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for samples, expected in zip(together, alone, strict=True):
        assert len(samples) == pytest.approx(len(expected), rel=0.02)


_FIRST_USE_BY_MANY = """
import threading
from voxray.pipelines.engines.espeak_library import espeak_library
count = 8
ready = threading.Barrier(count)
loaded = []
def first():
    ready.wait()
    loaded.append(id(espeak_library()))
threads = [threading.Thread(target=first) for _ in range(count)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(loaded), len(set(loaded)))
"""


def test_threads_that_need_the_library_first_at_the_same_moment_get_the_same_one():
    """It is loaded once a process, so the process is a fresh one."""
    done = subprocess.run(
        [sys.executable, "-c", _FIRST_USE_BY_MANY], capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["8", "1"], done.stderr
