"""The self-test that engines run when they are loaded."""

import pytest

from voxray.base.errors import EngineConfigError
from voxray.pipelines.engines.base import EngineKind, SpeechOutput, TextInput, try_out
from voxray.pipelines.engines.espeak_tts import EspeakEngine
from voxray.pipelines.engines.scripted import POISON, ScriptedEngine


def test_it_returns_what_was_said_and_closes_the_session():
    engine = ScriptedEngine(kind=EngineKind.TTS)
    session = engine.open({})
    (output,) = try_out(engine, session, TextInput("hello"))
    assert isinstance(output, SpeechOutput)
    assert session.closed == 1


@pytest.mark.parametrize(
    ("whole", "message"), [(False, "ValueError: poisoned"), (True, "ValueError: this batch is")]
)
def test_what_fails_is_told_as_the_operators_fault_and_the_session_closed(whole, message):
    engine = ScriptedEngine(kind=EngineKind.TTS, poison_fails_batch=whole)
    session = engine.open({})
    with pytest.raises(EngineConfigError, match=rf"scripted: fails on a first try \({message}"):
        try_out(engine, session, TextInput(POISON))
    assert session.closed == 1


def test_an_engine_that_is_silent_does_not_load(monkeypatch):
    monkeypatch.setattr(EspeakEngine, "run_batch", lambda self, items: [None for _ in items])
    with pytest.raises(EngineConfigError, match="espeak: gives no sound"):
        EspeakEngine().load()
