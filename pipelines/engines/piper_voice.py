"""One Piper voice: its description (`.onnx.json`), its model (`.onnx`), and running it.

The files are those of Piper's voices: the model takes the numbers of phonemes, their count and
three scales (noise, length, noise of the lengths), of several speakers also a number, and gives
the wave. Nothing is ever downloaded.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from voxray.base.errors import EngineConfigError, EngineError
from voxray.pipelines.engines.base import Samples
from voxray.pipelines.engines.espeak_library import espeak_library
from voxray.pipelines.engines.piper_phonemes import (
    PhonemeIds,
    PhonemeTable,
    clause,
    letters,
    sentences,
)

_LONGEST_PART = 300
# Phonemes in one run of the model: about 20 s of speech. Longer ones keep other calls waiting.
_SILENT = 1e-4
# A wave below it has nothing to be made louder.
_INPUTS: Mapping[str, str] = {
    "input": "tensor(int64)",
    "input_lengths": "tensor(int64)",
    "scales": "tensor(float)",
}
_SPEAKER_INPUT = "sid"


@dataclass(frozen=True, kw_only=True)
class Scales:
    """How a voice speaks.

    Attributes:
        length: of the speech; 1.2 is a fifth slower.
        noise: how much the sound varies.
        noise_w: how much the lengths of the phonemes vary.
    """

    length: float
    noise: float
    noise_w: float


@dataclass(frozen=True, kw_only=True)
class VoiceDescription:
    """What the `.onnx.json` beside a model says.

    Attributes:
        name: the file's name without its endings.
        path: the model.
        sample_rate: Hz.
        espeak_voice: which of espeak-ng's voices makes the phonemes; None where the voice was
            trained on letters.
        table: numbers of the phonemes.
        speakers: numbers of the named speakers.
        speaker_count: speakers that the model has; 1 takes no number.
        scales: the voice's own.
    """

    name: str
    path: Path
    sample_rate: int
    espeak_voice: str | None
    table: PhonemeTable
    speakers: Mapping[str, int]
    speaker_count: int
    scales: Scales

    def speaker(self, wanted: int | str | None) -> int:
        """Return a speaker's number, by name or number; the first one for None.

        Raises:
            EngineConfigError: the voice has no such speaker.
        """
        if wanted is None:
            return 0
        if isinstance(wanted, str):
            if wanted in self.speakers:
                return self.speakers[wanted]
        elif 0 <= wanted < self.speaker_count:
            return wanted
        names = ", ".join(sorted(self.speakers)[:12])
        has = f"{self.speaker_count} of them" + (f": {names}" if names else "")
        raise EngineConfigError(f"piper: voice {self.name} has no speaker {wanted!r}; it has {has}")

    def parts(self, text: str) -> list[PhonemeIds]:
        """Return a text as what the model runs on at a time, about a sentence each."""
        if self.espeak_voice is None:
            spoken = letters(text)
        else:
            clauses = espeak_library().phonemes(text, self.espeak_voice)
            spoken = [clause(phonemes, source) for phonemes, source in clauses]
        numbered = (self.table.number(part) for part in sentences(spoken, _LONGEST_PART))
        return [part for part in numbered if part]


def describe(path: Path) -> VoiceDescription:
    """Read what stands beside a model.

    Raises:
        EngineConfigError: a file is missing, or is not of a Piper voice.
    """
    beside = path.with_name(f"{path.name}.json")
    for file in (path, beside):
        if not file.is_file():
            raise EngineConfigError(
                f"piper: there is no file {file}; a voice is NAME.onnx and NAME.onnx.json beside it"
            )
    try:
        raw = json.loads(beside.read_text(encoding="utf-8"))
        return _read(path, raw)
    except OSError as error:
        raise EngineConfigError(f"piper: {beside} can't be read: {error.strerror}") from error
    except KeyError as error:
        raise EngineConfigError(
            f"piper: {beside} is not of a Piper voice: it has no {error}"
        ) from error
    except (ValueError, TypeError, AttributeError) as error:
        raise EngineConfigError(f"piper: {beside} is not of a Piper voice: {error}") from error


def _read(path: Path, raw: dict[str, Any]) -> VoiceDescription:
    kind = raw.get("phoneme_type", "espeak")
    if kind not in ("espeak", "text"):
        raise ValueError(f"its phoneme_type {kind!r} is neither espeak nor text")
    ids = {str(key): tuple(int(each) for each in ids) for key, ids in raw["phoneme_id_map"].items()}
    replaced = {str(key): "".join(to) for key, to in (raw.get("phoneme_map") or {}).items()}
    inference = raw.get("inference") or {}
    rate = int(raw["audio"]["sample_rate"])
    if not 8_000 <= rate <= 192_000:
        raise ValueError(f"its sample rate is {rate} Hz")
    return VoiceDescription(
        name=path.name.removesuffix(".onnx"),
        path=path,
        sample_rate=rate,
        espeak_voice=str(raw["espeak"]["voice"]) if kind == "espeak" else None,
        table=PhonemeTable(ids, replaced),
        speakers={str(k): int(v) for k, v in (raw.get("speaker_id_map") or {}).items()},
        speaker_count=max(1, int(raw.get("num_speakers", 1))),
        scales=Scales(
            length=float(inference.get("length_scale", 1.0)),
            noise=float(inference.get("noise_scale", 0.667)),
            noise_w=float(inference.get("noise_w", 0.8)),
        ),
    )


class PiperVoice:
    """A loaded voice. Runs on one thread at a time."""

    def __init__(
        self, description: VoiceDescription, *, providers: list[str], threads: int
    ) -> None:
        """Load the model.

        Args:
            description: of the voice.
            providers: onnxruntime's, in the order of preference.
            threads: CPU threads of one run; 0 takes one for each core.

        Raises:
            EngineConfigError: it is no model, not of a Piper voice, or does not fit the device.
        """
        self.description = description
        self._session = _session(description.path, providers, threads)
        self._check()

    @property
    def providers(self) -> list[str]:
        """What it really runs on."""
        return list(self._session.get_providers())

    def speak(self, part: PhonemeIds, speaker: int, scales: Scales) -> Samples:
        """Return the speech of one part, at the voice's rate.

        Raises:
            EngineError: the model failed.
        """
        feed: dict[str, npt.NDArray[Any]] = {
            "input": np.array([part], np.int64),
            "input_lengths": np.array([len(part)], np.int64),
            "scales": np.array([scales.noise, scales.length, scales.noise_w], np.float32),
        }
        if self.description.speaker_count > 1:
            feed[_SPEAKER_INPUT] = np.array([speaker], np.int64)
        try:
            wave = np.asarray(self._session.run(None, feed)[0], np.float32).reshape(-1)
        except Exception as error:  # onnxruntime's classes have no common parent of their own.
            raise EngineError(
                f"piper: voice {self.description.name} failed: {_first_line(error)}"
            ) from error
        if not np.isfinite(wave).all():
            raise EngineError(f"piper: voice {self.description.name} gave no sound but NaN")
        return _loud(wave)

    def _check(self) -> None:
        has = {each.name: each.type for each in self._session.get_inputs()}
        wanted = dict(_INPUTS)
        if self.description.speaker_count > 1:
            wanted[_SPEAKER_INPUT] = "tensor(int64)"
        if has != wanted or not self._session.get_outputs():
            shown = ", ".join(f"{name}: {kind}" for name, kind in sorted(has.items())) or "none"
            raise EngineConfigError(
                f"piper: {self.description.path} is not of a Piper voice with "
                f"{self.description.speaker_count} speakers: its inputs are {shown}"
            )


def _session(path: Path, providers: list[str], threads: int) -> Any:
    import onnxruntime  # noqa: PLC0415 - optional, and heavy

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # onnxruntime's classes have no common parent of their own.
        raise EngineConfigError(f"piper: {path} can't be loaded: {_first_line(error)}") from error


def _loud(wave: npt.NDArray[np.float32]) -> Samples:
    """Return a wave as samples, its loudest one at the full scale: as Piper itself does."""
    peak = float(np.abs(wave).max(initial=0.0))
    scale = 32767 / peak if peak > _SILENT else 32767
    samples: Samples = np.clip(np.rint(wave * scale), -32768, 32767).astype(np.int16)
    return samples


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
