"""LiveKit voice agents as actors on Ray.

The plugins load livekit-agents when they are first touched; nothing here loads Ray.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from voxray.pipelines.plugins.pipeline import pipeline, register_pipeline
    from voxray.pipelines.plugins.stt import STT
    from voxray.pipelines.plugins.tts import TTS
    from voxray.pipelines.plugins.turn import TurnDetector
    from voxray.pipelines.plugins.vad import VAD
    from voxray.pipelines.turn_options import TurnOptions

    __version__: str

__all__ = [
    "STT",
    "TTS",
    "VAD",
    "TurnDetector",
    "TurnOptions",
    "__version__",
    "pipeline",
    "register_pipeline",
]

_PLACES = {
    "STT": "voxray.pipelines.plugins.stt",
    "TTS": "voxray.pipelines.plugins.tts",
    "TurnDetector": "voxray.pipelines.plugins.turn",
    "VAD": "voxray.pipelines.plugins.vad",
    "TurnOptions": "voxray.pipelines.turn_options",
    "pipeline": "voxray.pipelines.plugins.pipeline",
    "register_pipeline": "voxray.pipelines.plugins.pipeline",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = importlib.import_module("importlib.metadata").version("voxray")
    elif name in _PLACES:
        value = getattr(importlib.import_module(_PLACES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
