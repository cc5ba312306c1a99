"""Both sides of a call on one time line."""

import wave

import numpy as np
import pytest

from voxray.base.errors import ConfigError
from voxray.loadtest.recording import Recording, Side

RATE = 1000


def frame(value, length=20):
    return np.full(length, value, dtype=np.int16)


def test_sides_stand_where_they_were_heard():
    recording = Recording(RATE)
    recording.add(Side.CALLER, 50.0, frame(1, 500))
    recording.add(Side.AGENT, 51.0, frame(2, 500))
    mixed = recording.mixed()
    assert mixed.shape == (1500, 2)
    assert mixed[:500, Side.CALLER].tolist() == [1] * 500
    assert not mixed[500:, Side.CALLER].any()
    assert not mixed[:1000, Side.AGENT].any()
    assert mixed[1000:, Side.AGENT].tolist() == [2] * 500
    assert recording.length_s == 1.5


def test_uneven_arrival_leaves_no_gaps():
    recording = Recording(RATE)
    for number, late_s in enumerate([0.0, 0.05, -0.01, 0.1, 0.0]):
        recording.add(Side.AGENT, 7 + number * 0.02 + late_s, frame(3))
    assert recording.mixed()[:, Side.AGENT].tolist() == [3] * 100


def test_a_long_gap_is_silence():
    recording = Recording(RATE)
    recording.add(Side.AGENT, 0.0, frame(3))
    recording.add(Side.AGENT, 1.0, frame(4))
    mixed = recording.mixed()[:, Side.AGENT]
    assert mixed[:20].tolist() == [3] * 20
    assert not mixed[20:1000].any()
    assert mixed[1000:].tolist() == [4] * 20


def test_a_side_that_began_before_the_line_is_kept_whole():
    recording = Recording(RATE)
    recording.add(Side.CALLER, 5.1, frame(1))
    recording.add(Side.AGENT, 5.0, frame(2))
    assert recording.mixed()[:, Side.AGENT].tolist() == [2] * 20


def test_file(tmp_path):
    recording = Recording(RATE)
    recording.add(Side.CALLER, 0.0, frame(1))
    recording.add(Side.AGENT, 0.0, frame(-2))
    recording.write(tmp_path / "call.wav")
    with wave.open(str(tmp_path / "call.wav")) as file:
        assert (file.getnchannels(), file.getframerate(), file.getnframes()) == (2, RATE, 20)
        assert np.frombuffer(file.readframes(1), dtype=np.int16).tolist() == [1, -2]


def test_empty_recording_is_a_valid_file(tmp_path):
    Recording(RATE).write(tmp_path / "call.wav")
    with wave.open(str(tmp_path / "call.wav")) as file:
        assert file.getnframes() == 0


def test_a_file_that_cannot_be_written(tmp_path):
    with pytest.raises(ConfigError, match="can't be written"):
        Recording(RATE).write(tmp_path / "none" / "call.wav")
