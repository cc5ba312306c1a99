"""Hearing when somebody speaks, on synthetic sound."""

import numpy as np
import pytest

from voxray.loadtest.listening import SpeechBegan, SpeechDetector, SpeechEnded, level_dbfs

RATE = 24_000
FRAME = RATE // 50


def tone(seconds, amplitude):
    time = np.arange(round(seconds * RATE)) / RATE
    return (amplitude * np.sin(2 * np.pi * 300 * time)).astype(np.int16)


def silence(seconds):
    return np.zeros(round(seconds * RATE), dtype=np.int16)


def edges(*parts, start_s=100.0):
    """Feed sound in frames of 20 ms, each arriving when its last sample has been made."""
    detector = SpeechDetector(RATE)
    sound = np.concatenate(parts)
    found = []
    for number in range(len(sound) // FRAME):
        at_s = start_s + (number + 1) * FRAME / RATE
        edge = detector.push(at_s, sound[number * FRAME : (number + 1) * FRAME])
        if edge is not None:
            found.append(edge)
    return found


def test_level():
    assert level_dbfs(silence(0.02)) == -120
    assert level_dbfs(silence(0)) == -120
    assert level_dbfs(tone(1, 32767)) == pytest.approx(-3.01, abs=0.01)
    assert level_dbfs(tone(1, 327.67)) == pytest.approx(-43.0, abs=0.05)


def test_an_utterance_is_dated_by_its_first_and_last_loud_frame():
    assert edges(silence(0.5), tone(1, 8000), silence(1)) == [
        SpeechBegan(at_s=pytest.approx(100.52)),
        SpeechEnded(at_s=pytest.approx(101.5)),
    ]


def test_silence_is_no_speech():
    assert edges(silence(5)) == []


def test_faint_noise_is_no_speech():
    assert edges(tone(5, 100)) == []


def test_a_click_is_no_speech():
    assert edges(silence(0.5), tone(0.02, 20000), silence(2)) == []


def test_a_pause_between_sentences_ends_nothing():
    found = edges(tone(1, 8000), silence(0.4), tone(1, 8000), silence(1))
    assert [type(edge) for edge in found] == [SpeechBegan, SpeechEnded]
    assert found[1].at_s == pytest.approx(102.4)


def test_two_utterances():
    found = edges(tone(1, 8000), silence(1), tone(1, 8000), silence(1))
    assert [type(edge) for edge in found] == [SpeechBegan, SpeechEnded] * 2


def test_fading_out_between_both_levels_goes_on():
    # -46 dBFS: too faint to begin, loud enough not to end.
    faint = tone(2, 230)
    assert edges(faint) == []
    found = edges(tone(0.5, 8000), faint, silence(1))
    assert found[-1] == SpeechEnded(at_s=pytest.approx(102.5))


def test_a_late_frame_is_no_silence():
    detector = SpeechDetector(RATE)
    frame = tone(0.02, 8000)
    detector.push(1.00, frame)
    detector.push(1.02, frame)
    assert detector.speaking
    assert detector.push(5.0, silence(0.02)) is None
    assert detector.speaking


def test_stop_ends_what_is_being_said_once():
    detector = SpeechDetector(RATE)
    detector.push(1.00, tone(0.02, 8000))
    assert detector.push(1.02, tone(0.02, 8000)) == SpeechBegan(at_s=1.0)
    assert detector.stop() == SpeechEnded(at_s=1.02)
    assert detector.stop() is None
