"""A deterministic engine without a model, for tests of everything around engines.

It transcribes audio into a count of samples, speaks text as a ramp of samples, and misbehaves on
request: see `ScriptedOptions`.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from voxray.base.errors import EngineConfigError
from voxray.pipelines.engines.base import (
    AudioInput,
    EndOfInput,
    EngineInfo,
    EngineInput,
    EngineKind,
    EngineOutput,
    EngineSession,
    FlushInput,
    SpeechOutput,
    TextInput,
    TranscriptOutput,
    WorkItem,
)

POISON = "poison"
"""A text that an engine with `poison_fails_batch` can't stand: the whole batch fails."""


@dataclass(frozen=True, kw_only=True)
class ScriptedOptions:
    """How one stream behaves.

    Attributes:
        fail_after: inputs after which the stream fails; 0 never.
        interim: whether each audio input gives an interim transcript.
    """

    fail_after: int = 0
    interim: bool = False


@dataclass(slots=True)
class ScriptedSession:
    """The state of one stream.

    Attributes:
        options: how it behaves.
        samples: samples heard since it opened.
        segment: samples heard since the last flush.
        inputs: inputs worked through.
        closed: how often it was closed.
    """

    options: ScriptedOptions
    samples: int = 0
    segment: int = 0
    inputs: int = 0
    closed: int = 0

    def close(self) -> None:
        """Count the close."""
        self.closed += 1


@dataclass
class ScriptedEngine:
    """The engine. A test hands its own instance to the host, instead of a name.

    Attributes:
        name: its name.
        kind: what it pretends to be.
        max_batch: streams in one batch at most.
        max_text: characters of one text at most.
        sample_rate: Hz.
        gate: each batch waits for it to be set, so a test decides when a batch runs.
        poison_fails_batch: a poisoned text raises out of `run_batch` instead of failing alone.
        load_error: what `load` raises.
        on_batch: called on the engine's thread before each batch.
        batches: the sizes of the batches so far; failed attempts included.
        sessions: all that were opened.
        loaded: how often it was loaded.
        closed: how often it was closed.
    """

    name: str = "scripted"
    kind: EngineKind = EngineKind.STT
    max_batch: int = 64
    max_text: int = 1_000_000
    sample_rate: int = 16_000
    gate: threading.Event | None = None
    poison_fails_batch: bool = False
    load_error: Exception | None = None
    on_batch: Callable[[Sequence[WorkItem]], None] | None = None
    batches: list[int] = field(default_factory=list)
    sessions: list[ScriptedSession] = field(default_factory=list)
    loaded: int = 0
    closed: int = 0

    @property
    def info(self) -> EngineInfo:
        """What the engine is."""
        return EngineInfo(
            name=self.name,
            kind=self.kind,
            model="scripted",
            provider="voxray",
            sample_rate=self.sample_rate,
            max_batch=self.max_batch,
            max_text=self.max_text,
        )

    def load(self) -> None:
        """Count the load, or fail as told."""
        if self.load_error is not None:
            raise self.load_error
        self.loaded += 1

    def open(self, options: Mapping[str, Any]) -> EngineSession:
        """Start a stream.

        Raises:
            EngineConfigError: an option is unknown.
        """
        known = {entry.name for entry in fields(ScriptedOptions)}
        if unknown := sorted(set(options) - known):
            raise EngineConfigError(f"{self.name}: unknown option: {', '.join(unknown)}")
        session = ScriptedSession(ScriptedOptions(**options))
        self.sessions.append(session)
        return session

    def run_batch(self, items: Sequence[WorkItem]) -> Sequence[BaseException | None]:
        """Work through one batch, once the gate is open."""
        self.batches.append(len(items))
        if self.on_batch is not None:
            self.on_batch(items)
        if self.gate is not None:
            self.gate.wait()
        if self.poison_fails_batch and any(map(_poisoned, items)):
            raise ValueError("this batch is poisoned")
        return [self._run_item(item) for item in items]

    def close(self) -> None:
        """Count the close."""
        self.closed += 1

    def _run_item(self, item: WorkItem) -> BaseException | None:
        session = item.session
        assert isinstance(session, ScriptedSession), "a session of another engine"
        for given in item.inputs:
            if item.cancelled():
                return None
            session.inputs += 1
            if 0 < session.options.fail_after < session.inputs:
                return ValueError("told to fail")
            if isinstance(given, TextInput) and given.text == POISON:
                return ValueError("poisoned")
            for output in _answer(session, given, self.sample_rate):
                item.emit(output)
        return None


def _poisoned(item: WorkItem) -> bool:
    return any(isinstance(given, TextInput) and given.text == POISON for given in item.inputs)


def _answer(session: ScriptedSession, given: EngineInput, rate: int) -> list[EngineOutput]:
    match given:
        case AudioInput(samples=samples):
            session.samples += len(samples)
            session.segment += len(samples)
            return [_transcript(session, rate, final=False)] if session.options.interim else []
        case TextInput(text=text):
            return [SpeechOutput(np.arange(len(text), dtype=np.int16))]
        case FlushInput() | EndOfInput():
            if session.segment == 0:
                return []
            final = _transcript(session, rate, final=True)
            session.segment = 0
            return [final]


def _transcript(session: ScriptedSession, rate: int, *, final: bool) -> TranscriptOutput:
    return TranscriptOutput(
        text=f"{session.segment} samples",
        final=final,
        start_s=(session.samples - session.segment) / rate,
        end_s=session.samples / rate,
    )
