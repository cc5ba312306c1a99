"""Text to speech by local Piper voices: good voices without a service, on CPU or CUDA."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from voxray.base.errors import EngineConfigError
from voxray.pipelines.audio import StreamResampler
from voxray.pipelines.engines.base import (
    EngineInfo,
    EngineKind,
    EngineSession,
    Samples,
    SpeechOutput,
    TextInput,
    WorkItem,
    run_each,
)
from voxray.pipelines.engines.options import read_options
from voxray.pipelines.engines.piper_voice import PiperVoice, Scales, VoiceDescription, describe

__all__ = ["PiperEngine", "PiperOptions"]

_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
_DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True, kw_only=True)
class PiperOptions:
    """How one stream speaks; what is None is the voice's own.

    Attributes:
        voice: name of one of the engine's voices; None takes the first.
        speaker: name or number of a speaker, in a voice of several.
        length_scale: 1.2 is a fifth slower; 0.1 to 10.
        noise_scale: how much the sound varies, 0 to 2.
        noise_w: how much the lengths of the phonemes vary, 0 to 2.
        pause_s: silence after each sentence, 0 to 5 seconds.
    """

    voice: str | None = None
    speaker: int | str | None = None
    length_scale: float | None = None
    noise_scale: float | None = None
    noise_w: float | None = None
    pause_s: float = 0.15

    def __post_init__(self) -> None:
        """Check the ranges."""
        ranges = {
            "length_scale": (0.1, 10.0),
            "noise_scale": (0.0, 2.0),
            "noise_w": (0.0, 2.0),
            "pause_s": (0.0, 5.0),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ValueError(f"{name} must be {low:g} to {high:g}, not {value:g}")


class _Session:
    def __init__(self, voice: VoiceDescription, options: PiperOptions, rate: int) -> None:
        own = voice.scales
        self.voice = voice
        self.speaker = voice.speaker(options.speaker)
        self.scales = Scales(
            length=own.length if options.length_scale is None else options.length_scale,
            noise=own.noise if options.noise_scale is None else options.noise_scale,
            noise_w=own.noise_w if options.noise_w is None else options.noise_w,
        )
        self.pause = np.zeros(int(options.pause_s * rate), np.int16)
        self.resampler = StreamResampler(voice.sample_rate, rate)
        self.rate = rate

    def at_rate(self, samples: Samples) -> Samples:
        """Return a sentence at the engine's rate, whole."""
        if self.voice.sample_rate == self.rate:
            return samples
        # Its end is still inside the resampler: silence pushes it out.
        tail = np.zeros(int(2 * self.resampler.delay_s * self.voice.sample_rate) + 1, np.int16)
        self.resampler.reset()
        return np.concatenate((self.resampler.push(samples), self.resampler.push(tail)))

    def close(self) -> None:
        """Hold nothing, free nothing."""


class PiperEngine:
    """Speaks sentence by sentence; each is handed out as soon as it is made."""

    def __init__(
        self, *, voices: Sequence[str] = (), device: str = "auto", threads: int = 0
    ) -> None:
        """Look at the voices' descriptions; the models are loaded by `load`.

        Args:
            voices: `.onnx` files, each with its `.onnx.json` beside it. The first is the default,
                and its rate is the engine's: others are resampled.
            device: `cpu`, `cuda`, or `auto`, which takes CUDA where onnxruntime has it.
            threads: CPU threads of one run; 0 takes one for each core.

        Raises:
            EngineConfigError: no voice is given, a file is missing or is not of a Piper voice.
        """
        if device not in _DEVICES:
            raise EngineConfigError(f"piper: device must be {', '.join(_DEVICES)}, not {device!r}")
        if type(threads) is not int or threads < 0:
            raise EngineConfigError(f"piper: threads must be a number from 0, not {threads!r}")
        if isinstance(voices, str) or not voices:
            raise EngineConfigError(
                "piper: needs a list of voices: engine_settings: "
                "{piper: {voices: [/path/to/NAME.onnx]}}"
            )
        self._device = device
        self._threads = threads
        described = [describe(Path(path).expanduser()) for path in voices]
        self._described = {each.name: each for each in described}
        if len(self._described) < len(described):
            raise EngineConfigError("piper: two of the voices have the same name")
        self._default = described[0]
        self._loaded: dict[str, PiperVoice] = {}

    @property
    def info(self) -> EngineInfo:
        """What the engine is."""
        return EngineInfo(
            name="piper",
            kind=EngineKind.TTS,
            model=self._default.name,
            provider="piper",
            sample_rate=self._default.sample_rate,
            # One run takes all cores, and its length is known only when it is done: streams take
            # turns text by text.
            max_batch=1,
            inputs_per_turn=1,
        )

    def load(self) -> None:
        """Load the models and speak a word to nobody with each.

        Raises:
            EngineConfigError: onnxruntime or a provider is missing, or a model can't be loaded.
        """
        providers = self._providers()
        for name, description in self._described.items():
            voice = PiperVoice(description, providers=providers, threads=self._threads)
            if self._device == "cuda" and _CUDA not in voice.providers:
                # onnxruntime goes to the CPU in silence.
                raise EngineConfigError(
                    f"piper: voice {name} could not be put on the GPU: CUDA or cuDNN is missing, "
                    "or of another version than onnxruntime-gpu needs"
                )
            _try(voice)
            self._loaded[name] = voice

    def open(self, options: Mapping[str, Any]) -> EngineSession:
        """Start a stream; the options are the fields of `PiperOptions`.

        Raises:
            EngineConfigError: an option is unknown or out of range, or there is no such voice or
                speaker.
        """
        given = read_options("piper", PiperOptions, options)
        name = self._default.name if given.voice is None else given.voice
        voice = self._described.get(name)
        if voice is None:
            raise EngineConfigError(
                f"piper: no voice {name!r}; there are {', '.join(self._described)}"
            )
        return _Session(voice, given, self._default.sample_rate)

    def run_batch(self, items: Sequence[WorkItem]) -> Sequence[BaseException | None]:
        """Speak the texts of one batch."""
        return run_each(items, self._speak)

    def close(self) -> None:
        """Free the models."""
        self._loaded.clear()

    def _speak(self, item: WorkItem) -> None:
        session = item.session
        assert isinstance(session, _Session), "a session of another engine"
        voice = self._loaded[session.voice.name]
        texts = (given.text for given in item.inputs if isinstance(given, TextInput))
        for part in (part for text in texts for part in session.voice.parts(text)):
            if item.cancelled():
                return
            samples = session.at_rate(voice.speak(part, session.speaker, session.scales))
            item.emit(SpeechOutput(np.concatenate((samples, session.pause))))

    def _providers(self) -> list[str]:
        try:
            import onnxruntime  # noqa: PLC0415 - optional, and heavy
        except ImportError as error:
            raise EngineConfigError(
                "piper: onnxruntime is not installed: pip install 'voxray[piper]', or "
                "onnxruntime-gpu for CUDA"
            ) from error
        available = onnxruntime.get_available_providers()
        if self._device == "cuda" and _CUDA not in available:
            raise EngineConfigError(
                "piper: device is cuda, and the installed onnxruntime has no CUDA: "
                "pip install onnxruntime-gpu in its place"
            )
        cuda = self._device != "cpu" and _CUDA in available
        return [_CUDA, _CPU] if cuda else [_CPU]


def _try(voice: PiperVoice) -> None:
    description = voice.description
    parts = description.parts("one two three")
    if not parts:
        raise EngineConfigError(
            f"piper: voice {description.name} knows none of the phonemes of its language"
        )
    if not len(voice.speak(parts[0], 0, description.scales)):
        raise EngineConfigError(f"piper: voice {description.name} gives no sound")
