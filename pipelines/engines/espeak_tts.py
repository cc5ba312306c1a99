"""Text to speech by espeak-ng: small, offline, and it speaks while it is still thinking."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from voxray.base.errors import EngineConfigError
from voxray.pipelines.engines.base import (
    EngineInfo,
    EngineKind,
    EngineSession,
    Samples,
    SpeechOutput,
    TextInput,
    WorkItem,
    run_each,
    try_out,
)
from voxray.pipelines.engines.espeak_library import Voice, espeak_library
from voxray.pipelines.engines.options import read_options

__all__ = ["SAMPLE_RATE", "EspeakEngine", "Voice", "synthesize", "voices"]

SAMPLE_RATE = 22_050
"""Hz; of all espeak-ng voices."""


def synthesize(text: str, voice: Voice | None = None) -> Samples:
    """Return a text as speech at `SAMPLE_RATE`, whole.

    Raises:
        EngineConfigError: the voice is unknown, or the library can't be loaded.
        EngineError: the library failed.
    """
    chunks: list[Samples] = []
    espeak_library().synthesize(text, voice or Voice(), chunks.append, lambda: False)
    return np.concatenate(chunks) if chunks else np.empty(0, np.int16)


def voices() -> tuple[str, ...]:
    """Return the names of all voices, sorted.

    Raises:
        EngineConfigError: the library can't be loaded.
    """
    return espeak_library().voices()


class _Session:
    def __init__(self, voice: Voice) -> None:
        self.voice = voice

    def close(self) -> None:
        """Hold nothing, free nothing."""


class EspeakEngine:
    """Speaks each text at once. A flush changes nothing: nothing is ever held back."""

    @property
    def info(self) -> EngineInfo:
        """What the engine is."""
        return EngineInfo(
            name="espeak",
            kind=EngineKind.TTS,
            model="espeak-ng",
            provider="espeak-ng",
            sample_rate=SAMPLE_RATE,
            # The library speaks one text at a time; streams take turns text by text.
            max_batch=1,
            inputs_per_turn=1,
        )

    def load(self) -> None:
        """Load the library and speak a word to nobody, which reads the default voice's files.

        Raises:
            EngineConfigError: the library can't be loaded, or gives no sound.
        """
        session = self.open({})
        if not try_out(self, session, TextInput("hello")):
            raise EngineConfigError("espeak: gives no sound: install espeakng-loader again")

    def open(self, options: Mapping[str, Any]) -> EngineSession:
        """Start a stream; the options are the fields of `Voice`.

        Raises:
            EngineConfigError: an option is unknown or out of range, or there is no such voice.
        """
        voice = read_options(self.info.name, Voice, options)
        espeak_library().check(voice)
        return _Session(voice)

    def run_batch(self, items: Sequence[WorkItem]) -> Sequence[BaseException | None]:
        """Speak the texts of one batch."""
        return run_each(items, _speak)

    def close(self) -> None:
        """Do nothing: the library belongs to the process."""


def _speak(item: WorkItem) -> None:
    assert isinstance(item.session, _Session), "a session of another engine"
    for given in item.inputs:
        if isinstance(given, TextInput) and not item.cancelled():
            espeak_library().synthesize(
                given.text,
                item.session.voice,
                lambda samples: item.emit(SpeechOutput(samples)),
                item.cancelled,
            )
