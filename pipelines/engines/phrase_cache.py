"""Phrases that were spoken once are not made again: a bounded store, and an engine around engines.

Calls say the same things: a greeting, a question, "one moment please". What an engine said to a
text is kept by engine, options and text, once it was said to the end, and serves all calls of the
replica. The least recently used phrases make room for new ones.
"""

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from voxray.observability.events import EventSink, PhraseCacheUsed
from voxray.pipelines.batch_runner import run_isolated
from voxray.pipelines.engines.base import (
    Engine,
    EngineInfo,
    EngineInput,
    EngineOutput,
    EngineSession,
    Samples,
    SpeechOutput,
    TextInput,
    WorkItem,
    WorkResult,
)

PhraseKey: TypeAlias = tuple[str, str, str]
"""Engine, options as JSON, text."""

_ENTRY_BYTES = 512
# What an entry takes beside its samples and its text.


class PhraseCache:
    """Spoken phrases in a bounded memory. Safe on any thread."""

    def __init__(self, limit_bytes: int, sink: EventSink) -> None:
        """Start empty.

        Args:
            limit_bytes: memory at most; 0 keeps nothing.
            sink: is told of each text that is looked for; called on the engines' threads.
        """
        self.limit_bytes = limit_bytes
        self._sink = sink
        self._lock = threading.Lock()
        self._phrases: OrderedDict[PhraseKey, Samples] = OrderedDict()
        self._bytes = 0

    @property
    def bytes(self) -> int:
        """Memory that is taken now."""
        return self._bytes

    def __len__(self) -> int:
        """Return how many phrases are kept."""
        return len(self._phrases)

    def get(self, key: PhraseKey) -> Samples | None:
        """Return a phrase, which counts as used, or None."""
        with self._lock:
            samples = self._phrases.get(key)
            if samples is not None:
                self._phrases.move_to_end(key)
        self._sink.emit(PhraseCacheUsed(engine=key[0], hit=samples is not None, bytes=self._bytes))
        return samples

    def put(self, key: PhraseKey, samples: Samples) -> None:
        """Keep a whole phrase; one that is larger than all the room is not kept."""
        cost = _cost(key, samples)
        if cost > self.limit_bytes:
            return
        # Its own copy: a view would keep more alive than is counted.
        kept = samples.copy()
        kept.flags.writeable = False
        with self._lock:
            before = self._phrases.pop(key, None)
            if before is not None:
                self._bytes -= _cost(key, before)
            self._phrases[key] = kept
            self._bytes += cost
            while self._bytes > self.limit_bytes:
                oldest, dropped = self._phrases.popitem(last=False)
                self._bytes -= _cost(oldest, dropped)


def _cost(key: PhraseKey, samples: Samples) -> int:
    return samples.nbytes + sum(len(part) * 4 for part in key) + _ENTRY_BYTES


@dataclass(slots=True)
class _Session:
    inner: EngineSession
    options: str

    def close(self) -> None:
        """Close the engine's own."""
        self.inner.close()


@dataclass(slots=True)
class _Recorder:
    """Hands results on and keeps the speech among them."""

    item: WorkItem
    chunks: list[Samples] = field(default_factory=list)

    def __call__(self, output: EngineOutput) -> None:
        if isinstance(output, SpeechOutput):
            self.chunks.append(output.samples)
        self.item.emit(output)


class CachingEngine:
    """Another engine, which is asked only for what is not in the cache."""

    def __init__(self, engine: Engine, cache: PhraseCache) -> None:
        self._engine = engine
        self._cache = cache

    @property
    def info(self) -> EngineInfo:
        """What the engine is."""
        return self._engine.info

    def load(self) -> None:
        """Load the engine.

        Raises:
            EngineConfigError: it can't be loaded.
        """
        self._engine.load()

    def open(self, options: Mapping[str, Any]) -> EngineSession:
        """Start a stream.

        Raises:
            EngineConfigError: the engine refuses the options.
        """
        inner = self._engine.open(options)
        return _Session(inner, json.dumps(dict(options), sort_keys=True, default=repr))

    def run_batch(self, items: Sequence[WorkItem]) -> Sequence[WorkResult]:
        """Say what is known, and have the engine say the rest."""
        works = [_Work(item, self._engine.info.name, self._cache) for item in items]
        while waiting := [work for work in works if work.advance()]:
            results = run_isolated(self._engine, [work.asked for work in waiting])
            for work, result in zip(waiting, results, strict=True):
                work.answered(result)
        return [work.result for work in works]

    def close(self) -> None:
        """Free the engine."""
        self._engine.close()


class _Work:
    """One item: its inputs are answered from the cache, or asked of the engine one at a time."""

    def __init__(self, item: WorkItem, engine: str, cache: PhraseCache) -> None:
        session = item.session
        assert isinstance(session, _Session), "a session of another engine"
        self._item = item
        self._session = session
        self._engine = engine
        self._cache = cache
        self._next = 0
        self._recorder = _Recorder(item)
        self.result: WorkResult = None

    def advance(self) -> bool:
        """Say all that is known; return whether the engine is to be asked for the next input."""
        if self.result is not None:
            return False
        while self._next < len(self._item.inputs):
            given = self._item.inputs[self._next]
            if not isinstance(given, TextInput):
                return True
            known = self._cache.get(self._key(given))
            if known is None:
                return True
            if len(known) and not self._item.cancelled():
                self._item.emit(SpeechOutput(known))
            self._next += 1
        return False

    @property
    def asked(self) -> WorkItem:
        """The next input, for the engine."""
        self._recorder = _Recorder(self._item)
        given = self._item.inputs[self._next]
        return WorkItem(self._session.inner, (given,), self._recorder, self._item.cancelled)

    def answered(self, result: WorkResult) -> None:
        """Take the engine's answer to `asked`."""
        given = self._item.inputs[self._next]
        self._next += 1
        recorder, self.result = self._recorder, result
        if result is None:
            self._keep(given, recorder)
        elif isinstance(result, Future):
            if self._next < len(self._item.inputs):
                # The rest would have to wait here, on the thread that is to stay free.
                result.cancel()
                self.result = RuntimeError(
                    f"engine {self._engine} answers later, so its inputs_per_turn must be 1"
                )
                return
            result.add_done_callback(lambda done: self._keep_if_done(done, given, recorder))

    def _keep_if_done(self, done: "Future[None]", given: EngineInput, recorder: _Recorder) -> None:
        if not done.cancelled() and done.exception() is None:
            self._keep(given, recorder)

    def _keep(self, given: EngineInput, recorder: _Recorder) -> None:
        # An engine that was told to stop may have said half of it.
        if isinstance(given, TextInput) and not self._item.cancelled():
            chunks = recorder.chunks
            whole = np.concatenate(chunks) if chunks else np.empty(0, np.int16)
            self._cache.put(self._key(given), whole)

    def _key(self, given: TextInput) -> PhraseKey:
        return (self._engine, self._session.options, given.text)
