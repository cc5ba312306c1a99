"""Loads a Whisper model from a folder of this machine, and says in one line why it can't be.

Nothing is ever fetched from elsewhere: faster-whisper would ask a model hub for a folder, or for
a tokenizer, that is not there.
"""

import contextlib
import ctypes
import importlib
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxray.base.errors import EngineConfigError

LONGEST_WINDOW_S = 30.0
"""What Whisper hears at once."""
_COMPUTE_TYPES = {"cpu": "int8", "cuda": "float16"}
_BATCHES = {"cpu": 8, "cuda": 16}
# More in a batch gains little: on a CPU the cores are busy with one, on a GPU the memory of the
# encoder grows with it (large-v3 takes about 0.2 GiB for each utterance).
_SPECIAL_TOKENS = ("<|startoftranscript|>", "<|endoftext|>", "<|notimestamps|>", "<|transcribe|>")
_CUBLAS = "libcublas.so.12"
# The one library of CUDA that CTranslate2's wheel leaves to the system.
_OTHER_FORMATS = ("model.safetensors", "pytorch_model.bin", "ggml-model.bin")


@dataclass(frozen=True, kw_only=True)
class WhisperSettings:
    """What the engine is loaded with (`engine_settings` of the replica group).

    Attributes:
        model: folder of a Whisper model in CTranslate2's format.
        device: `cpu`, `cuda`, or `auto`: the GPU if the process has one.
        device_index: which of the GPUs that the process sees.
        compute_type: a type of CTranslate2; `auto` is `int8` on a CPU and `float16` on a GPU.
        threads: threads of the CPU; 0 leaves it to CTranslate2, which takes up to 4.
        batch: utterances that are decoded together at most; 0 takes 8 on a CPU, 16 on a GPU.
        window_s: seconds that an utterance is filled up to with silence. Whisper was trained on
            30; less costs less in proportion and makes words worse, unless the model was tuned
            for it.
        interim_share: share of the engine's time that interim results may take.
    """

    model: str = ""
    device: str = "auto"
    device_index: int = 0
    compute_type: str = "auto"
    threads: int = 0
    batch: int = 0
    window_s: float = LONGEST_WINDOW_S
    interim_share: float = 0.25

    def __post_init__(self) -> None:
        """Check what does not need the model."""
        if self.device not in ("auto", *_COMPUTE_TYPES):
            raise ValueError(f"device must be auto, cpu or cuda, not {self.device!r}")
        if not 0 <= self.batch <= 256:
            raise ValueError(f"batch must be 0 to 256, not {self.batch}")
        if not 2 <= self.window_s <= LONGEST_WINDOW_S:
            raise ValueError(f"window_s must be 2 to {LONGEST_WINDOW_S:g}, not {self.window_s:g}")
        if not 0 <= self.interim_share <= 0.9:
            raise ValueError(f"interim_share must be 0 to 0.9, not {self.interim_share:g}")
        if self.threads < 0 or self.device_index < 0:
            raise ValueError("threads and device_index must not be negative")

    @property
    def name(self) -> str:
        """The model's name for metrics and spans: that of its folder."""
        return Path(self.model).name or "whisper"


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model and where it runs.

    Attributes:
        whisper: faster-whisper's `WhisperModel`.
        device: `cpu` or `cuda`.
        batch: utterances that are decoded together at most.
        times_words: whether it can tell the times of words.
    """

    whisper: Any
    device: str
    batch: int
    times_words: bool


def load_model(settings: WhisperSettings) -> LoadedModel:
    """Load what the settings name.

    Raises:
        EngineConfigError: the extra is not installed, there is no such folder, it holds no
            Whisper model of CTranslate2, there is no such device, or it has too little memory.
    """
    folder = _check_folder(settings.model)
    try:
        faster_whisper = importlib.import_module("faster_whisper")
        ctranslate2 = importlib.import_module("ctranslate2")
    except ImportError as error:
        raise EngineConfigError(
            f"whisper: {error.name or 'faster-whisper'} is not installed: "
            "pip install 'voxray[whisper]'"
        ) from error
    device = _choose_device(settings.device, ctranslate2)
    compute_type = settings.compute_type
    if compute_type == "auto":
        compute_type = _COMPUTE_TYPES[device]
    supported = ctranslate2.get_supported_compute_types(device, settings.device_index)
    if compute_type not in {*supported, "default"}:
        raise EngineConfigError(
            f"whisper: this {device} has no compute_type {compute_type!r}; it has "
            f"{', '.join(sorted(supported))}"
        )
    try:
        whisper = faster_whisper.WhisperModel(
            str(folder),
            device=device,
            device_index=settings.device_index,
            compute_type=compute_type,
            cpu_threads=settings.threads,
            local_files_only=True,
        )
    except Exception as error:
        raise EngineConfigError(why_not(folder, device, error)) from error
    _check_model(folder, whisper)
    return LoadedModel(
        whisper=whisper,
        device=device,
        batch=settings.batch or _BATCHES[device],
        times_words=_times_words(folder),
    )


def why_not(folder: str | Path, device: str, error: Exception) -> str:
    """Return one line on why a model can't be used."""
    reason = " ".join(str(error).split()) or type(error).__name__
    if "out of memory" in reason.lower():
        return (
            f"whisper: {device} has too little memory for {folder}: take a smaller model, a "
            "smaller batch, or compute_type int8_float16"
        )
    return f"whisper: the model in {folder} can't be used on {device}: {reason}"


def _check_folder(model: str) -> Path:
    if not model:
        raise EngineConfigError(
            "whisper: no model was given: set the folder of one, "
            "engine_settings: {whisper: {model: /path/of/the/folder}}"
        )
    folder = Path(model).expanduser()
    if not folder.is_dir():
        raise EngineConfigError(f"whisper: there is no model folder {folder}")
    if not (folder / "model.bin").is_file():
        if any((folder / name).is_file() for name in _OTHER_FORMATS):
            raise EngineConfigError(
                f"whisper: the model in {folder} is not in CTranslate2's format: convert it with "
                "ct2-transformers-converter"
            )
        raise EngineConfigError(f"whisper: {folder} is no model folder: it has no model.bin")
    if not (folder / "tokenizer.json").is_file():
        raise EngineConfigError(
            f"whisper: {folder} has no tokenizer.json: copy it from the model it was converted from"
        )
    try:
        json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EngineConfigError(
            f"whisper: {folder / 'tokenizer.json'} can't be read: {error}"
        ) from error
    return folder


def _times_words(folder: Path) -> bool:
    """Return whether the model says which of its heads follow the audio."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and bool(config.get("alignment_heads"))


def _choose_device(device: str, ctranslate2: Any) -> str:
    gpus = ctranslate2.get_cuda_device_count()
    if device == "auto":
        device = "cuda" if gpus else "cpu"
    if device == "cuda" and not gpus:
        raise EngineConfigError(
            "whisper: device is cuda, and this process sees no CUDA GPU: give the replica group "
            "gpus, or set device: cpu"
        )
    if device == "cuda":
        _load_cublas()
    return device


def _load_cublas() -> None:
    """Load CUDA's library for CTranslate2, from the system or from NVIDIA's package."""
    places = [_CUBLAS]
    with contextlib.suppress(ImportError):
        found = importlib.util.find_spec("nvidia.cublas")
        folders = (found.submodule_search_locations or ()) if found is not None else ()
        places += [str(Path(folder) / "lib" / _CUBLAS) for folder in folders]
    for place in places:
        with contextlib.suppress(OSError):
            ctypes.CDLL(place, mode=ctypes.RTLD_GLOBAL)
            return
    raise EngineConfigError(
        f"whisper: {_CUBLAS} of CUDA 12 can't be loaded: pip install nvidia-cublas-cu12"
    )


def _check_model(folder: Path, whisper: Any) -> None:
    model, mels = whisper.model, whisper.feature_extractor.mel_filters.shape[0]
    if model.n_mels != mels:
        raise EngineConfigError(
            f"whisper: the model in {folder} hears {model.n_mels} mel bands, its "
            f"preprocessor_config.json says {mels}: the files do not belong together"
        )
    lacks = [token for token in _SPECIAL_TOKENS if whisper.hf_tokenizer.token_to_id(token) is None]
    if lacks:
        raise EngineConfigError(
            f"whisper: {folder / 'tokenizer.json'} is not Whisper's: it has no {', '.join(lacks)}"
        )
