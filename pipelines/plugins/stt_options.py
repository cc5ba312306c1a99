"""What `voxray.STT` is told, and what it tells its engine. Pure but for reading a grammar."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from voxray.base.errors import EngineConfigError


@dataclass(frozen=True, kw_only=True)
class STTOptions:
    """Options of one stream; the meaning of each is told in `voxray.STT`."""

    grammar: str | None = None
    language_model: str | None = None
    dictionary: str | None = None
    language: str | None = "en"
    interim_results: bool = True
    activation_threshold: float | None = None
    min_speech_duration: float | None = None
    min_silence_duration: float | None = None
    prefix_padding_duration: float | None = None
    engine_options: Mapping[str, Any] = field(default_factory=dict)

    def for_engine(self) -> dict[str, Any]:
        """Return the engine's options; what was not given is the engine's to choose."""
        given = {
            "grammar": self.grammar,
            "language_model": self.language_model,
            "dictionary": self.dictionary,
            "language": self.language,
            "interim_results": self.interim_results,
            "threshold": self.activation_threshold,
            "min_speech_s": self.min_speech_duration,
            "min_silence_s": self.min_silence_duration,
            "prefix_padding_s": self.prefix_padding_duration,
        }
        named = {name: value for name, value in given.items() if value is not None}
        return named | dict(self.engine_options)


def read_grammar(grammar: str | Path | None) -> str | None:
    """Return the text of a grammar: a `Path` is read, a string is the text itself.

    Raises:
        EngineConfigError: the file can't be read.
    """
    if not isinstance(grammar, Path):
        return grammar
    try:
        return grammar.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise EngineConfigError(f"speech grammar {grammar} can't be read: {error}") from error
