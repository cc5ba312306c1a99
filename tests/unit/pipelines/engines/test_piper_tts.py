"""The Piper engine on real ONNX models, made here: their sound tells what they were given."""

import json

import numpy as np
import pytest

from tests.fakes.piper_voice import PER_PHONEME, write_voice
from voxray.base.errors import EngineConfigError, EngineError
from voxray.pipelines.engines.base import EndOfInput, FlushInput, TextInput
from voxray.pipelines.engines.piper_tts import PiperEngine

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra 'piper' is not installed")
THREE = "One. Two! Three?"


@pytest.fixture
def make(bench, tmp_path):
    """Loads an engine with one voice of the given kind."""

    def engine(**voice):
        return bench(PiperEngine(voices=[str(write_voice(tmp_path, **voice))], device="cpu"))

    return engine


def joined(outputs):
    return np.concatenate([output.samples for output in outputs])


def frequency(samples, rate):
    spectrum = np.abs(np.fft.rfft(samples.astype(np.float64)))
    return float(np.argmax(spectrum)) * rate / len(samples)


def test_each_sentence_is_handed_out_when_it_is_made(make):
    tts = make()
    session = tts.open(pause_s=0)
    model, heard = tts.engine._loaded["tiny"], []

    class Counted:
        def speak(self, *arguments):
            heard.append(len(outputs))
            return model.speak(*arguments)

    tts.engine._loaded["tiny"] = Counted()
    outputs = []
    tts.emit_into(session, outputs, TextInput(THREE))
    # Each was out before the next was begun.
    assert heard == [0, 1, 2]
    assert len(outputs) == 3


def test_the_sound_is_the_models_at_its_rate_and_full_scale(make):
    tts = make(rate=16_000)
    assert tts.engine.info.sample_rate == 16_000
    assert (tts.engine.info.model, tts.engine.info.provider) == ("tiny", "piper")
    session = tts.open(pause_s=0)
    (output,) = tts.run(session, TextInput("One."))
    (numbers,) = session.voice.parts("One.")
    assert len(output.samples) == PER_PHONEME * len(numbers)
    assert np.abs(output.samples).max() == 32767
    assert frequency(output.samples, 16_000) == pytest.approx(160, rel=0.02)


def test_each_sentence_is_followed_by_a_pause(make):
    tts = make()
    whole, short = (
        [len(each.samples) for each in tts.run(tts.open(pause_s=pause_s), TextInput("One. Two."))]
        for pause_s in (0.5, 0)
    )
    assert [long - bare for long, bare in zip(whole, short, strict=True)] == [11_025, 11_025]
    assert tts.run(tts.open(pause_s=0), FlushInput(), EndOfInput()) == []


def test_scales_and_noise_are_those_of_the_stream(make):
    tts = make()
    normal = joined(tts.run(tts.open(pause_s=0), TextInput("One.")))
    slow = joined(tts.run(tts.open(length_scale=2.0, pause_s=0), TextInput("One.")))
    assert len(slow) == 2 * len(normal)
    noisy = tts.open(noise_scale=1.0, pause_s=0)
    first, second = (joined(tts.run(noisy, TextInput("One."))) for _ in range(2))
    assert (first != second).any()
    assert (joined(tts.run(tts.open(pause_s=0), TextInput("One."))) == normal).all()


def test_the_voices_own_scales_hold_where_the_stream_has_none(make):
    tts = make(inference={"length_scale": 3.0, "noise_scale": 0.0, "noise_w": 0.0})
    own = joined(tts.run(tts.open(pause_s=0), TextInput("One.")))
    assert len(own) == 3 * len(
        joined(tts.run(tts.open(length_scale=1, pause_s=0), TextInput("One.")))
    )


def test_speakers_go_by_name_and_number(make):
    tts = make(speakers=3)
    pitches = [
        frequency(joined(tts.run(tts.open(speaker=speaker, pause_s=0), TextInput("One."))), 22_050)
        for speaker in (None, 0, "s1", 2)
    ]
    assert pitches == pytest.approx([220.5, 220.5, 441, 882], rel=0.02)


def test_voices_of_other_rates_are_resampled_to_the_first_ones(bench, tmp_path):
    voices = [
        str(write_voice(tmp_path, name, rate=rate)) for name, rate in (("a", 22_050), ("b", 16_000))
    ]
    tts = bench(PiperEngine(voices=voices, device="cpu"))
    whole = joined(tts.run(tts.open(voice="b", pause_s=0), TextInput(THREE)))
    own = sum(PER_PHONEME * len(part) for part in tts.open(voice="b").voice.parts(THREE))
    assert len(whole) / 22_050 == pytest.approx(own / 16_000, abs=0.02)
    assert frequency(whole, 22_050) == pytest.approx(160, rel=0.05)
    with pytest.raises(EngineConfigError, match="no voice 'c'; there are a, b"):
        tts.open(voice="c")


def test_cancelling_stops_before_the_next_sentence(make):
    tts = make()
    outputs = []
    tts.emit_into(
        tts.open(pause_s=0), outputs, TextInput(THREE), cancelled=lambda: len(outputs) >= 1
    )
    assert len(outputs) == 1


def test_a_long_sentence_is_spoken_in_parts(make):
    tts = make()
    outputs = tts.run(tts.open(pause_s=0), TextInput("word " * 300))
    assert len(outputs) > 3
    assert max(len(each.samples) for each in outputs) < 700 * PER_PHONEME


@pytest.mark.parametrize("text", ["", " ", "...", "\0"])
def test_nothing_to_say_is_no_sound(make, text):
    tts = make()
    assert tts.run(tts.open(pause_s=0), TextInput(text)) == []


def test_a_voice_of_letters_needs_no_phonemes(make):
    tts = make(phoneme_type="text")
    assert len(tts.run(tts.open(pause_s=0), TextInput("Hello there. Bye."))) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"speaker": "nobody"}, "voice tiny has no speaker 'nobody'; it has 2 of them: s0, s1"),
        ({"speaker": 2}, "has no speaker 2"),
        ({"speaker": True}, "option speaker must be int or str or null"),
        ({"length_scale": 0}, "length_scale must be 0.1 to 10"),
        ({"noise_w": 3}, "noise_w must be 0 to 2"),
        ({"pause_s": -1}, "pause_s must be 0 to 5"),
        ({"rate": 100}, "unknown option: rate"),
    ],
)
def test_faults_are_named_when_the_stream_opens(make, options, message):
    tts = make(speakers=2)
    with pytest.raises(EngineConfigError, match=message):
        tts.open(**options)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(EngineConfigError, match=r"no file .*gone\.onnx; a voice is"):
        PiperEngine(voices=[str(tmp_path / "gone.onnx")])
    path = write_voice(tmp_path)
    (tmp_path / "tiny.onnx.json").unlink()
    with pytest.raises(EngineConfigError, match=r"no file .*tiny\.onnx\.json"):
        PiperEngine(voices=[str(path)])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"audio": {}}, "it has no 'sample_rate'"),
        ({"audio": {"sample_rate": 5}}, "its sample rate is 5 Hz"),
        ({"audio": []}, "is not of a Piper voice"),
        ({"phoneme_id_map": {}}, r"lacks \^ \$ _"),
        ({"phoneme_id_map": 5}, "is not of a Piper voice"),
        ({"phoneme_type": "pinyin"}, "phoneme_type 'pinyin' is neither"),
        ({"num_speakers": "many"}, "is not of a Piper voice"),
    ],
)
def test_a_description_of_something_else_is_told(tmp_path, changes, message):
    path = write_voice(tmp_path, **changes)
    with pytest.raises(EngineConfigError, match=message):
        PiperEngine(voices=[str(path)])


@pytest.mark.parametrize("text", ["not JSON", "[]", "null", "\x00"])
def test_a_description_that_is_no_json_object_is_told(tmp_path, text):
    path = write_voice(tmp_path)
    (tmp_path / "tiny.onnx.json").write_text(text)
    with pytest.raises(EngineConfigError, match="is not of a Piper voice"):
        PiperEngine(voices=[str(path)])


def test_a_model_that_is_none_is_told_at_load_in_one_line(tmp_path):
    path = write_voice(tmp_path)
    path.write_bytes(b"no model at all")
    with pytest.raises(EngineConfigError, match=r"tiny\.onnx can't be loaded: ") as error:
        PiperEngine(voices=[str(path)], device="cpu").load()
    assert "\n" not in str(error.value)


def test_a_model_of_something_else_is_told_at_load(tmp_path):
    path = write_voice(tmp_path, speakers=2)
    beside = tmp_path / "tiny.onnx.json"
    beside.write_text(json.dumps({**json.loads(beside.read_text()), "num_speakers": 1}))
    with pytest.raises(EngineConfigError, match=r"with 1 speakers: its inputs are .*sid"):
        PiperEngine(voices=[str(path)], device="cpu").load()


def test_an_unknown_language_is_told_at_load(tmp_path):
    path = write_voice(tmp_path, espeak={"voice": "tlh-none"})
    with pytest.raises(EngineConfigError, match="no voice 'tlh-none'"):
        PiperEngine(voices=[str(path)], device="cpu").load()


def test_a_model_that_fails_fails_its_stream_only(make):
    tts = make()
    session = tts.open(pause_s=0)
    good = session.scales
    session.scales = type(good)(length=float("nan"), noise=0.0, noise_w=0.0)
    with pytest.raises(EngineError, match="voice tiny failed"):
        tts.run(session, TextInput("One."))
    assert tts.run(tts.open(pause_s=0), TextInput("One."))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "needs a list of voices"),
        ({"voices": "one.onnx"}, "needs a list of voices"),
        ({"voices": ["a"], "device": "tpu"}, "device must be auto, cpu, cuda, not 'tpu'"),
        ({"voices": ["a"], "threads": -1}, "threads must be"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(EngineConfigError, match=message):
        PiperEngine(**settings)


def test_two_voices_of_one_name_are_refused(tmp_path):
    (tmp_path / "other").mkdir()
    paths = [str(write_voice(folder)) for folder in (tmp_path, tmp_path / "other")]
    with pytest.raises(EngineConfigError, match="two of the voices have the same name"):
        PiperEngine(voices=paths)


def test_cuda_that_is_not_there_is_told(tmp_path):
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("onnxruntime has CUDA here")
    with pytest.raises(EngineConfigError, match="no CUDA: pip install onnxruntime-gpu"):
        PiperEngine(voices=[str(write_voice(tmp_path))], device="cuda").load()
