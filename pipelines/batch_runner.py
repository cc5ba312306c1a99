"""Runs one batch on the engine's thread and keeps the failure of one stream from its neighbours."""

from collections.abc import Callable, Sequence

from voxray.pipelines.engines.base import Engine, EngineOutput, WorkItem


def run_isolated(engine: Engine, items: Sequence[WorkItem]) -> list[BaseException | None]:
    """Run a batch; return for each item None or what went wrong with it. Never raises.

    When the engine fails as a whole, the batch is halved until the items that it can't stand are
    alone. `Engine.run_batch` promises that sessions are unchanged then, so the rest runs again;
    results that an item gave before the failure are swallowed the second time.
    """
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


def _run(
    engine: Engine, items: list[WorkItem], emitters: list[_Emitter]
) -> list[BaseException | None]:
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
