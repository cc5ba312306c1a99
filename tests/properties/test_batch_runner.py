"""Poison anywhere in a batch: found, told once, and nothing of it reaches a neighbour."""

import asyncio
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.event_log import EventLog
from voxray.base.errors import EngineError, StreamFinishedError
from voxray.base.timing import SystemClock
from voxray.observability.events import StreamFailed
from voxray.pipelines.batch_runner import run_isolated
from voxray.pipelines.engine_host import EngineHost, StreamOrigin
from voxray.pipelines.engines.base import EndOfInput, EngineKind, TextInput, WorkItem
from voxray.pipelines.engines.scripted import POISON, ScriptedEngine

TEXTS = st.lists(
    st.lists(st.sampled_from(["a", "bb", "ccc", POISON]), min_size=1, max_size=4),
    min_size=1,
    max_size=24,
)


def spoken(texts):
    """What a healthy stream says: the length of each of its texts."""
    return [len(text) for text in texts]


@dataclass
class Half:
    """An engine that speaks for a part of its batch, and then falls over because of a poison."""

    engine: ScriptedEngine
    before: int

    @property
    def info(self):
        return self.engine.info

    def run_batch(self, items):
        if any(TextInput(POISON) in item.inputs for item in items):
            for item in items[: self.before]:
                for given_ in item.inputs:
                    if given_.text == POISON:
                        raise ValueError("poisoned")
                    item.emit(len(given_.text))
            raise ValueError("poisoned")
        for item in items:
            for given_ in item.inputs:
                item.emit(len(given_.text))
        return [None] * len(items)


@given(texts=TEXTS, before=st.integers(0, 24))
def test_every_poison_is_found_and_results_are_given_once(texts, before):
    engine = Half(ScriptedEngine(), before)
    heard = [[] for _ in texts]
    items = [
        WorkItem(None, tuple(map(TextInput, each)), outputs.append, lambda: False)
        for each, outputs in zip(texts, heard, strict=True)
    ]
    errors = run_isolated(engine, items)
    for each, outputs, error in zip(texts, heard, errors, strict=True):
        if POISON in each:
            assert isinstance(error, ValueError)
            # What was said before the poison may have been heard, and once at the most.
            assert outputs == spoken(each[: each.index(POISON)])[: len(outputs)]
        else:
            assert error is None
            assert outputs == spoken(each)


class Call:
    def __init__(self, host, number):
        self.heard, self.ends = [], []
        self.over = asyncio.Event()
        self.stream = host.open(
            "tts",
            {},
            on_output=lambda output: self.heard.append(len(output.samples)),
            on_end=self._end,
            origin=StreamOrigin(name=f"host/{number}"),
        )

    def _end(self, end):
        self.ends.append(end)
        self.over.set()


async def talk(texts, *, fails_batch):
    """Say everything at once through a host; return the calls, the events and the engine."""
    log = EventLog()
    engine = ScriptedEngine(kind=EngineKind.TTS, poison_fails_batch=fails_batch)
    host = EngineHost(
        [engine],
        max_streams=64,
        latency_budget_ms=0.0,
        max_batch=64,
        sink=log,
        clock=SystemClock(),
    )
    await host.start()
    try:
        calls = [Call(host, number) for number in range(len(texts))]
        for call, each in zip(calls, texts, strict=True):
            for text in each:
                call.stream.push(TextInput(text))
            call.stream.push(EndOfInput())
        async with asyncio.timeout(30):
            for call in calls:
                await call.over.wait()
    finally:
        await host.aclose()
    return calls, log, engine


@settings(max_examples=40, deadline=None)
@given(texts=TEXTS, fails_batch=st.booleans())
def test_a_poisoned_stream_ends_and_its_neighbours_never_notice(texts, fails_batch):
    calls, log, engine = asyncio.run(talk(texts, fails_batch=fails_batch))
    poisoned = [number for number, each in enumerate(texts) if POISON in each]
    for number, (call, each) in enumerate(zip(calls, texts, strict=True)):
        (end,) = call.ends
        if number in poisoned:
            assert isinstance(end, EngineError)
            assert f"host/{number} " in str(end)
        else:
            assert isinstance(end, StreamFinishedError)
            assert call.heard == spoken(each)
            # Its session was given each input once: the texts, and the end.
            assert engine.sessions[number].inputs == len(each) + 1
    assert [session.closed for session in engine.sessions] == [1] * len(texts)
    failures = log.of(StreamFailed)
    assert failures == [StreamFailed(engine="scripted", code="engine")] * len(poisoned)
