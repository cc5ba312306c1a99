"""What `voxray.STT` is told, and what it tells its engine. Pure but for reading a grammar."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxray.base.errors import EngineConfigError


@dataclass(frozen=True, kw_only=True)
class STTOptions:
    """Options of one stream; the meaning of each is told in `voxray.STT`."""

    grammar: str | None
    language: str
    interim_results: bool
    min_silence_duration: float | None

    def for_engine(self) -> dict[str, Any]:
        """Return the engine's options; what was not given is the engine's to choose."""
        given = {
            "grammar": self.grammar,
            "language": self.language,
            "interim": self.interim_results,
            "min_silence_s": self.min_silence_duration,
        }
        return {name: value for name, value in given.items() if value is not None}


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
