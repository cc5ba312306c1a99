"""The public surface of the package, and what importing it costs."""

import subprocess
import sys

import pytest

import voxray
from voxray.pipelines.plugins.pipeline import pipeline, register_pipeline
from voxray.pipelines.plugins.stt import STT
from voxray.pipelines.plugins.tts import TTS
from voxray.pipelines.plugins.vad import VAD
from voxray.pipelines.turn_options import TurnOptions


def loaded_after(statement: str) -> set[str]:
    """Return the modules that a fresh interpreter has loaded after a statement."""
    code = f"{statement}\nimport sys\nprint(' '.join(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return set(result.stdout.split())


def test_the_public_names_are_these() -> None:
    assert voxray.__all__ == [
        "STT",
        "TTS",
        "VAD",
        "TurnDetector",
        "TurnOptions",
        "__version__",
        "pipeline",
        "register_pipeline",
    ]
    assert set(voxray.__all__) <= set(dir(voxray))


def test_names_are_what_they_say() -> None:
    assert (voxray.STT, voxray.TTS, voxray.VAD) == (STT, TTS, VAD)
    assert (voxray.pipeline, voxray.register_pipeline) == (pipeline, register_pipeline)
    assert voxray.TurnOptions is TurnOptions
    assert voxray.__version__.split(".")[0].isdigit()


def test_other_names_are_missing() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Stt'"):
        _ = voxray.Stt


def test_importing_the_package_loads_nothing_else() -> None:
    loaded = loaded_after("import voxray")
    ours = {name for name in loaded if name.startswith("voxray.")}
    assert ours == set()
    assert not loaded & {"ray", "livekit", "livekit.agents", "grpc", "numpy", "pydantic"}


def test_the_plugins_load_neither_ray_nor_what_runs_on_it() -> None:
    loaded = loaded_after("import voxray; voxray.STT, voxray.TTS, voxray.VAD")
    assert "livekit.agents" in loaded
    assert not loaded & {"ray", "grpc", "voxray.dispatcher", "voxray.actors", "voxray.cli"}
    # Models and their libraries come with the engine, when it is asked for.
    assert not loaded & {"pocketsphinx", "espeakng_loader"}


def test_the_package_may_be_touched_first_off_the_main_thread() -> None:
    loaded_after(
        "import threading, voxray, importlib\n"
        "seen = []\n"
        "def touch():\n"
        "    import voxray\n"
        "    seen.append(voxray.VAD())\n"
        "thread = threading.Thread(target=touch)\n"
        "thread.start()\n"
        "thread.join()\n"
        "assert seen"
    )
