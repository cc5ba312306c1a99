"""The phrase cache under random use, beside a model of it; and the engine around an engine."""

from collections import OrderedDict
from concurrent.futures import CancelledError, Future

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.event_log import EventLog
from voxray.observability.events import PhraseCacheUsed
from voxray.pipelines.engines.base import (
    EndOfInput,
    EngineKind,
    FlushInput,
    SpeechOutput,
    TextInput,
    WorkItem,
)
from voxray.pipelines.engines.phrase_cache import CachingEngine, PhraseCache
from voxray.pipelines.engines.scripted import POISON, ScriptedEngine

KEYS = st.integers(0, 9).map(lambda number: ("engine", "{}", f"text {number}"))
USES = st.lists(
    st.one_of(
        st.tuples(st.just("get"), KEYS, st.just(0)),
        st.tuples(st.just("put"), KEYS, st.integers(0, 3000)),
    ),
    max_size=60,
)


def cost(key, count):
    # As the module says: samples, characters at most four bytes each, and the entry.
    return 2 * count + 4 * sum(map(len, key)) + 512


@given(USES, st.integers(0, 12_000))
def test_it_keeps_the_last_used_that_fit_and_nothing_else(uses, limit):
    cache, model = PhraseCache(limit, EventLog()), OrderedDict()
    for what, key, count in uses:
        if what == "get":
            found = cache.get(key)
            assert (found is not None) == (key in model)
            if found is not None:
                assert len(found) == model[key]
                model.move_to_end(key)
        else:
            cache.put(key, np.full(count, count % 100, np.int16))
            if cost(key, count) > limit:
                continue
            model.pop(key, None)
            model[key] = count
            while sum(map(cost, model, model.values())) > limit:
                model.popitem(last=False)
        assert len(cache) == len(model)
        assert cache.bytes == sum(map(cost, model, model.values())) <= limit


def test_what_is_kept_is_nobodys_to_change():
    cache = PhraseCache(10_000, EventLog())
    key, samples = ("engine", "{}", "hello"), np.ones(10, np.int16)
    cache.put(key, samples)
    samples[:] = 5
    kept = cache.get(key)
    assert (kept == 1).all()
    with pytest.raises(ValueError, match="read-only"):
        kept[0] = 2


def speaker(**options):
    return ScriptedEngine(kind=EngineKind.TTS, **options)


class Bench:
    """A caching engine over a scripted one."""

    def __init__(self, engine=None, cache=None, limit=1 << 20):
        self.log = EventLog()
        self.inner = engine or speaker()
        self.cache = cache or PhraseCache(limit, self.log)
        self.engine = CachingEngine(self.inner, self.cache)

    def run(self, *rows, cancelled=lambda: False, sessions=None):
        """Run one batch; return for each row its sounds, as lengths, and its result."""
        sessions = sessions or [self.engine.open({}) for _ in rows]
        heard = [[] for _ in rows]
        items = [
            WorkItem(session, tuple(inputs), sounds.append, cancelled)
            for session, inputs, sounds in zip(sessions, rows, heard, strict=True)
        ]
        results = self.engine.run_batch(items)
        lengths = [[len(each.samples) for each in sounds] for sounds in heard]
        return lengths, list(results)

    def lookups(self):
        return [event.hit for event in self.log.events if isinstance(event, PhraseCacheUsed)]


def texts(*words):
    return [TextInput(word) for word in words]


INPUTS = st.lists(
    st.one_of(
        st.sampled_from(["a", "bb", "ccc", POISON]).map(TextInput),
        st.just(FlushInput()),
    ),
    max_size=6,
)


@given(
    st.lists(st.lists(INPUTS, min_size=1, max_size=4), max_size=4),
    st.sampled_from([0, 1200, 1 << 20]),
)
def test_streams_hear_what_they_would_without_it(batches, limit):
    """Whatever is in the cache: the same sounds in the same order, the same failures."""
    bench = Bench(limit=limit)
    for rows in batches:
        lengths, results = bench.run(*rows)
        for inputs, sounds, result in zip(rows, lengths, results, strict=True):
            said = [given.text for given in inputs if isinstance(given, TextInput)]
            poisoned = POISON in said
            whole = said[: said.index(POISON)] if poisoned else said
            assert sounds == [len(text) for text in whole]
            assert (result is not None) == poisoned
    assert bench.cache.bytes <= limit


def test_a_phrase_is_made_once_for_all_calls():
    bench = Bench()
    assert bench.run(texts("hello"), texts("bye")) == ([[5], [3]], [None, None])
    assert bench.run(texts("hello")) == ([[5]], [None])
    assert bench.inner.batches == [2]
    assert bench.lookups() == [False, False, True]


def test_what_is_unknown_is_made_in_one_batch():
    bench = Bench()
    bench.run(texts("known"))
    lengths, _ = bench.run(texts("known", "one"), texts("two"), texts("known"))
    assert lengths == [[5, 3], [3], [5]]
    assert bench.inner.batches == [1, 2]


def test_options_engines_and_texts_are_told_apart():
    bench = Bench()
    other = CachingEngine(speaker(name="other"), bench.cache)
    for engine, options, text in (
        (bench.engine, {"interim": True}, "hello"),
        (bench.engine, {"interim": False}, "hello"),
        (bench.engine, {"interim": False}, "hello "),
        (other, {"interim": False}, "hello"),
    ):
        item = WorkItem(engine.open(options), tuple(texts(text)), lambda _: None, lambda: False)
        assert engine.run_batch([item]) == [None]
    assert bench.lookups() == [False] * 4
    assert len(bench.cache) == 4


def test_a_phrase_that_was_stopped_or_failed_is_not_kept():
    bench = Bench()
    heard = iter([False, True, True])
    bench.run(texts("stopped"), cancelled=lambda: next(heard))
    bench.run(texts(POISON))
    assert len(bench.cache) == 0


def test_a_batch_that_fails_as_a_whole_fails_the_poisoned_alone():
    bench = Bench(speaker(poison_fails_batch=True))
    lengths, results = bench.run(texts("one"), texts(POISON), texts("two", "one"))
    assert lengths == [[3], [], [3, 3]]
    assert [result is None for result in results] == [True, False, True]


def test_the_end_and_the_close_reach_the_engine():
    bench = Bench()
    session = bench.engine.open({})
    assert bench.run([*texts("hello"), EndOfInput()], sessions=[session]) == ([[5]], [None])
    session.close()
    assert bench.inner.sessions[0].inputs == 2
    assert bench.inner.sessions[0].closed == 1
    bench.engine.load()
    bench.engine.close()
    assert (bench.inner.loaded, bench.inner.closed) == (1, 1)
    assert bench.engine.info == bench.inner.info


class Later(ScriptedEngine):
    """An engine whose results the test gives, when it wants."""

    def run_batch(self, items):
        self.asked = [(item, Future()) for item in items]
        return [future for _, future in self.asked]

    def answer(self, error=None):
        for item, future in self.asked:
            item.emit(SpeechOutput(np.ones(7, np.int16)))
            future.set_exception(error) if error else future.set_result(None)


@pytest.mark.parametrize(
    ("finish", "kept"),
    [
        (lambda engine, _: engine.answer(), 1),
        (lambda engine, _: engine.answer(ValueError("broke")), 0),
        (lambda _, future: future.cancel(), 0),
    ],
)
def test_what_comes_later_is_kept_once_it_is_whole(finish, kept):
    bench = Bench(Later(kind=EngineKind.TTS))
    _, (future,) = bench.run(texts("hello"))
    assert len(bench.cache) == 0
    finish(bench.inner, future)
    assert len(bench.cache) == kept
    if kept:
        assert bench.run(texts("hello")) == ([[7]], [None])


def test_an_engine_that_answers_later_takes_one_input_a_turn():
    bench = Bench(Later(kind=EngineKind.TTS))
    _, (result,) = bench.run(texts("one", "two"))
    assert isinstance(result, RuntimeError)
    with pytest.raises(CancelledError):
        bench.inner.asked[0][1].result()
