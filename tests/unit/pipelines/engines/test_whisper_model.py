"""A Whisper model that can't be loaded: one clear line each, and nothing is fetched."""

import json
import shutil
import socket

import ctranslate2
import pytest

from benchmarks.models import tiny_whisper
from voxray.base.errors import EngineConfigError
from voxray.pipelines.engines import whisper_model
from voxray.pipelines.engines.whisper_decoder import WhisperDecoder
from voxray.pipelines.engines.whisper_stt import WhisperEngine


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_whisper.make(tmp_path_factory.mktemp("whisper") / "m", words=["yes"])


@pytest.fixture
def copy(model, tmp_path):
    return shutil.copytree(model, tmp_path / "copy")


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    def refuse(*_args):
        raise AssertionError("a model must never be fetched")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def fault(**settings):
    engine = WhisperEngine(**settings)
    with pytest.raises(EngineConfigError) as caught:
        engine.load()
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_a_model_is_needed():
    assert "no model was given" in fault()


def test_a_size_is_no_folder_and_is_not_fetched(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "there is no model folder tiny" in fault(model="tiny")


def test_a_folder_without_a_model(tmp_path):
    assert "it has no model.bin" in fault(model=str(tmp_path))


def test_a_model_of_another_program(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"x")
    assert "convert it with ct2-transformers-converter" in fault(model=str(tmp_path))


def test_a_tokenizer_is_not_fetched_either(copy):
    (copy / "tokenizer.json").unlink()
    assert "has no tokenizer.json" in fault(model=str(copy))


def test_a_tokenizer_that_is_none(copy):
    (copy / "tokenizer.json").write_text("{")
    assert "tokenizer.json can't be read" in fault(model=str(copy))


def test_a_tokenizer_of_another_model(copy):
    tokenizer = json.loads((copy / "tokenizer.json").read_text())
    tokenizer["added_tokens"] = []
    text = json.dumps(tokenizer).replace("<|endoftext|>", "<|stop|>")
    (copy / "tokenizer.json").write_text(text)
    assert "is not Whisper's: it has no <|endoftext|>" in fault(model=str(copy))


@pytest.mark.parametrize("content", [b"", b"nonsense" * 100])
def test_a_damaged_model(copy, content):
    (copy / "model.bin").write_bytes(content)
    assert f"the model in {copy} can't be used on cpu" in fault(model=str(copy), device="cpu")


def test_features_of_another_model(copy):
    (copy / "preprocessor_config.json").write_text('{"feature_size": 128}')
    message = fault(model=str(copy), device="cpu")
    assert "hears 80 mel bands, its preprocessor_config.json says 128" in message


def test_a_gpu_that_is_not_there(model, monkeypatch):
    monkeypatch.setattr(ctranslate2, "get_cuda_device_count", lambda: 0)
    assert "this process sees no CUDA GPU" in fault(model=str(model), device="cuda")


def test_a_type_that_the_device_has_not(model):
    message = fault(model=str(model), device="cpu", compute_type="float8")
    assert "has no compute_type 'float8'; it has " in message


def test_too_little_memory_says_what_to_do():
    error = RuntimeError("CUDA failed with error out of memory")
    message = whisper_model.why_not("/models/large", "cuda", error)
    assert message.startswith("whisper: cuda has too little memory for /models/large")


def test_a_model_that_hears_nothing_is_not_taken(model, monkeypatch):
    def fail(*_args):
        raise RuntimeError("CUDA failed with error\nout of memory")

    monkeypatch.setattr(WhisperDecoder, "_together", fail)
    assert "too little memory" in fault(model=str(model), device="cpu")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"device": "tpu"}, "device must be auto, cpu or cuda"),
        ({"batch": 1000}, "batch must be 0 to 256"),
        ({"window_s": 60.0}, "window_s must be 2 to 30"),
        ({"interim_share": 1.0}, "interim_share must be 0 to 0.9"),
        ({"threads": -1}, "must not be negative"),
        ({"modle": "x"}, "unknown option: modle"),
        ({"model": 3}, "option model must be str"),
    ],
)
def test_settings_that_are_wrong_are_told_at_once(settings, message):
    with pytest.raises(EngineConfigError, match=message):
        WhisperEngine(**settings)
