"""Runs one batch on the engine's thread and keeps the failure of one stream from its neighbours."""

from collections.abc import Callable, Sequence

from voxray.base.errors import TextTooLongError
from voxray.pipelines.engines.base import (
    Engine,
    EngineInfo,
    EngineOutput,
    TextInput,
    WorkItem,
    WorkResult,
)


def run_isolated(engine: Engine, items: Sequence[WorkItem]) -> list[WorkResult]:
    """Run a batch; return what became of each item. Never raises.

    When the engine fails as a whole, the batch is halved until the items that it can't stand are
    alone. `Engine.run_batch` promises that sessions are unchanged then, so the rest runs again;
    results that an item gave before the failure are swallowed the second time. A text that is too
    long for the engine fails its item before the engine sees it.
    """
    results: list[WorkResult] = [_too_long(engine.info, item) for item in items]
    places = [place for place, error in enumerate(results) if error is None]
    done = _run_guarded(engine, [items[place] for place in places]) if places else []
    for place, result in zip(places, done, strict=True):
        results[place] = result
    return results


def _too_long(info: EngineInfo, item: WorkItem) -> BaseException | None:
    for given in item.inputs:
        if isinstance(given, TextInput) and len(given.text) > info.max_text:
            return TextTooLongError(
                f"{info.name}: a text of {len(given.text)} characters; at most {info.max_text} "
                "at once: hand it in by sentences"
            )
    return None


def _run_guarded(engine: Engine, items: Sequence[WorkItem]) -> list[WorkResult]:
    emitters = [_Emitter(item.emit) for item in items]
    guarded = [
        WorkItem(item.session, item.inputs, emitter, item.cancelled)
        for item, emitter in zip(items, emitters, strict=True)
    ]
    return _run(engine, guarded, emitters)


class _Emitter:
    """Hands out results, and skips those that an earlier attempt handed out."""

    __slots__ = ("_emit", "_given", "_seen")

    def __init__(self, emit: Callable[[EngineOutput], None]) -> None:
        self._emit = emit
        self._given = 0
        self._seen = 0

    def __call__(self, output: EngineOutput) -> None:
        self._seen += 1
        if self._seen > self._given:
            self._given = self._seen
            self._emit(output)

    def restart(self) -> None:
        self._seen = 0


def _run(engine: Engine, items: list[WorkItem], emitters: list[_Emitter]) -> list[WorkResult]:
    try:
        results = list(engine.run_batch(items))
    except Exception as error:
        # Third-party code: whatever it is, it is this batch's alone.
        if len(items) == 1:
            return [error]
    else:
        if len(results) == len(items):
            return results
        wrong = f"engine {engine.info.name} gave {len(results)} results for {len(items)} streams"
        return [RuntimeError(wrong)] * len(items)
    for emitter in emitters:
        emitter.restart()
    half = len(items) // 2
    return [
        *_run(engine, items[:half], emitters[:half]),
        *_run(engine, items[half:], emitters[half:]),
    ]
