"""One stream's failure stays with it, whether the engine reports it or falls over."""

from voxray.pipelines.batch_runner import run_isolated
from voxray.pipelines.engines.base import TextInput, WorkItem
from voxray.pipelines.engines.scripted import POISON, ScriptedEngine, ScriptedOptions


def work(engine, texts):
    """One item for each text, and the results that each gave."""
    given = [[] for _ in texts]
    items = [
        WorkItem(engine.open({}), (TextInput(text),), outputs.append, lambda: False)
        for text, outputs in zip(texts, given, strict=True)
    ]
    return items, given


def test_what_the_engine_reports_is_passed_on():
    engine = ScriptedEngine()
    items, given = work(engine, ["one", POISON, "three"])
    errors = run_isolated(engine, items)
    assert [error is None for error in errors] == [True, False, True]
    assert [len(outputs) for outputs in given] == [1, 0, 1]
    assert engine.batches == [3]


def test_an_engine_that_falls_over_is_asked_again_without_the_culprit():
    engine = ScriptedEngine(poison_fails_batch=True)
    items, given = work(engine, ["a", "b", "c", POISON, "e", "f", "g"])
    errors = run_isolated(engine, items)
    assert [number for number, error in enumerate(errors) if error is not None] == [3]
    assert [len(outputs) for outputs in given] == [1, 1, 1, 0, 1, 1, 1]
    assert len(engine.batches) > 1


def test_results_given_before_the_fall_are_not_given_twice():
    engine = ScriptedEngine()
    items, given = work(engine, ["a", "bc", "def"])
    answer = engine.run_batch

    def falls_once(batch):
        if len(batch) == 3:
            answer(batch[:2])
            raise ValueError("late")
        return answer(batch)

    engine.run_batch = falls_once
    assert run_isolated(engine, items) == [None, None, None]
    assert [[len(output.samples) for output in outputs] for outputs in given] == [[1], [2], [3]]


def test_an_engine_that_counts_wrong_fails_the_batch_and_nothing_else():
    engine = ScriptedEngine()
    engine.run_batch = lambda items: []
    items, _ = work(engine, ["a", "b"])
    errors = run_isolated(engine, items)
    assert [str(error) for error in errors] == ["engine scripted gave 0 results for 2 streams"] * 2


def test_scripted_options_are_what_open_takes():
    assert ScriptedEngine().open({"interim": True}).options == ScriptedOptions(interim=True)
