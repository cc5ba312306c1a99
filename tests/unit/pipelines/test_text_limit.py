"""A text that is too long for an engine, between others that are not."""

from voxray.base.errors import EngineConfigError, TextTooLongError
from voxray.pipelines.batch_runner import run_isolated
from voxray.pipelines.engines.base import EndOfInput, EngineKind, TextInput, WorkItem
from voxray.pipelines.engines.scripted import ScriptedEngine


def test_it_fails_its_stream_alone_and_the_engine_never_sees_it():
    engine = ScriptedEngine(kind=EngineKind.TTS, max_text=5000)
    longest = engine.info.max_text
    texts = ["short", "x" * (longest + 1), "x" * longest]
    heard = [[] for _ in texts]
    sessions = [engine.open({}) for _ in texts]
    items = [
        WorkItem(session, (TextInput(text), EndOfInput()), sounds.append, lambda: False)
        for session, text, sounds in zip(sessions, texts, heard, strict=True)
    ]
    results = run_isolated(engine, items)
    assert [type(result) for result in results] == [type(None), TextTooLongError, type(None)]
    assert str(results[1]) == (
        "scripted: a text of 5001 characters; at most 5000 at once: hand it in by sentences"
    )
    # The caller's fault, not the model's: nobody tries it again.
    assert isinstance(results[1], EngineConfigError)
    assert [len(sounds) for sounds in heard] == [1, 0, 1]
    assert [session.inputs for session in sessions] == [2, 0, 2]
    assert engine.batches == [2]


def test_a_batch_of_nothing_else_is_not_run_at_all():
    engine = ScriptedEngine(kind=EngineKind.TTS, max_text=5000)
    text = TextInput("x" * 5001)
    item = WorkItem(engine.open({}), (text,), lambda _: None, lambda: False)
    (result,) = run_isolated(engine, [item])
    assert isinstance(result, TextTooLongError)
    assert engine.batches == []
