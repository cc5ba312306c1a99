"""`voxray.pipeline` gives what an `AgentSession` takes."""

import os
import re
import subprocess
import sys

import pytest
from livekit.agents import AgentSession, inference, stt, tts

from tests.running_app import ROOT
from voxray.base.errors import ConfigError, MissingPartError
from voxray.pipelines.plugins import pipeline as module
from voxray.pipelines.plugins.pipeline import pipeline, register_pipeline
from voxray.pipelines.plugins.stt import STT
from voxray.pipelines.plugins.tts import TTS
from voxray.pipelines.plugins.vad import VAD
from voxray.pipelines.turn_options import TurnOptions


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("TURN_DETECTION_", "OPENAI_")):
            monkeypatch.delenv(name)


async def test_local_is_ours_and_the_session_takes_it():
    parts = pipeline(
        "local",
        turn={"silence_ms": 700, "threshold": 0.6, "interruption_ms": 300},
        stt={"language": "de"},
        tts={"voice": "de"},
        vad={"min_speech_duration": 0.1},
    )
    assert [type(parts[kind]) for kind in ("stt", "tts", "vad")] == [STT, TTS, VAD]
    assert set(parts) == {"stt", "tts", "vad", "turn_handling"}
    session = AgentSession(**parts)
    assert session.options.endpointing["min_delay"] == 0.7
    assert session.options.interruption["min_duration"] == 0.3
    # What was not given is livekit-agents' own.
    assert (
        session.options.endpointing["max_delay"] == AgentSession().options.endpointing["max_delay"]
    )


def test_the_environment_is_read_when_it_is_asked_for(monkeypatch):
    monkeypatch.setenv("TURN_DETECTION_SILENCE_MS", "150")
    parts = pipeline()
    assert parts["vad"].min_silence_duration == 0.15
    assert parts["turn_handling"] == {"endpointing": {"min_delay": 0.15}}
    monkeypatch.setenv("TURN_DETECTION_SILENCE_MS", "long")
    with pytest.raises(ConfigError, match="TURN_DETECTION_SILENCE_MS"):
        pipeline()


async def test_an_end_of_turn_model_is_made_where_it_is_asked_for():
    parts = pipeline(turn=TurnOptions(mode="model"))
    assert isinstance(parts["turn_handling"]["turn_detection"], inference.TurnDetector)


async def test_a_server_gives_its_language_model_and_what_is_named():
    parts = pipeline("openai-compatible", base_url="http://127.0.0.1:9/v1", model="small")
    assert parts["llm"].model == "small"
    assert isinstance(parts["stt"], STT)
    parts = pipeline(
        "openai-compatible",
        api_key="key",
        stt_model="whisper-1",
        tts_model="tts-1",
        voice="ash",
        llm="mine",
    )
    assert parts["llm"] == "mine"
    assert parts["stt"].provider != "voxray"
    assert parts["tts"].model == "tts-1"


async def test_local_first_falls_back_to_the_server():
    parts = pipeline("local-first", api_key="key", stt_model="whisper-1", tts_model="tts-1")
    assert isinstance(parts["stt"], stt.FallbackAdapter)
    assert isinstance(parts["tts"], tts.FallbackAdapter)
    assert (parts["stt"].provider, parts["tts"].provider) == ("voxray", "voxray")
    await parts["stt"].aclose()
    await parts["tts"].aclose()


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("nowhere", {}, r"no pipeline 'nowhere'; there are: local, local-first, openai-compatible"),
        ("local", {"voice": "x"}, r"local: voice: no such option; there are: llm, turn, stt"),
        ("local", {"stt": 3}, r"local: stt: .*dictionary"),
        ("local", {"vad": {"threshold": 3}}, r"vad: .*unexpected keyword argument 'threshold'"),
        ("local", {"vad": {"min_speech_duration": -1}}, r"vad: .*must not be negative"),
        ("openai-compatible", {}, "needs api_key, base_url or the variable OPENAI_API_KEY"),
        ("local-first", {"api_key": "key"}, "give stt_model, tts_model, or both"),
    ],
)
def test_what_is_wrong_is_said(name, options, reason):
    with pytest.raises(ConfigError, match=reason):
        pipeline(name, **options)


def test_a_missing_plugin_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "livekit.plugins.openai", None)
    with pytest.raises(MissingPartError, match="pip install livekit-plugins-openai"):
        pipeline("openai-compatible", api_key="key")


def test_a_program_registers_its_own(monkeypatch):
    monkeypatch.setattr(module, "_builders", dict(module._builders))

    @register_pipeline("quiet")
    def build(turn, options):
        return {"stt": None, "vad": VAD(**turn.for_vad()), **options}

    parts = pipeline("quiet", turn={"silence_ms": 300}, llm="mine")
    assert parts["turn_handling"] == {"endpointing": {"min_delay": 0.3}}
    assert (parts["stt"], parts["llm"]) == (None, "mine")
    with pytest.raises(ConfigError, match="'quiet' already"):
        register_pipeline("quiet")


def test_the_page_tells_every_setting():
    page = (ROOT / "docs" / "pipelines.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| `TURN_DETECTION_(\w+)` \|", page, re.MULTILINE)
    assert rows == [(name, name.upper()) for name in TurnOptions.model_fields]
    for name in module._builders:
        assert f"`{name}`" in page


def test_a_session_is_made_without_ray():
    code = "import voxray, sys; voxray.pipeline(); assert 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
