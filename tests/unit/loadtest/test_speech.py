"""Sentences as samples."""

import numpy as np

from voxray.loadtest.speech import SPEECH_RATE, speak, speak_all, trim


def test_silence_is_cut_off_both_ends():
    sound = np.array([0, 3, -500, 0, 0, 900, 2, 0], dtype=np.int16)
    assert trim(sound).tolist() == [-500, 0, 0, 900]
    assert trim(np.zeros(9, dtype=np.int16)).tolist() == []


def test_lowest_sample_is_loud():
    assert trim(np.array([0, -32768], dtype=np.int16)).tolist() == [-32768]


def test_sentence():
    samples = speak("How much is a ticket to London?")
    assert samples.dtype == np.int16
    assert SPEECH_RATE < len(samples) < 5 * SPEECH_RATE
    assert np.abs(samples[: SPEECH_RATE // 10].astype(int)).max() > 160


async def test_each_sentence_is_spoken_once():
    speech = await speak_all(["Hello.", "Goodbye.", "Hello."])
    assert list(speech) == ["Hello.", "Goodbye."]
    assert len(speech["Hello."]) != len(speech["Goodbye."])
