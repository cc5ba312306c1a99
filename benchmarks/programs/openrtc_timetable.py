"""The timetable program under OpenRTC: the same agent and plugins, all calls in one process.

Run it in an environment of its own (`benchmarks.rivals`): OpenRTC brings plugins that voxray does
not need.
"""

import sys
import types
from pathlib import Path

from livekit.agents import TurnHandlingOptions
from openrtc import AgentPool

# OpenRTC loads a turn detector whose weights come from a hub. The other systems decide by VAD
# here; so does OpenRTC where no inference process has a model.
_no_detector = types.ModuleType("livekit.plugins.turn_detector.multilingual")
vars(_no_detector)["MultilingualModel"] = type("MultilingualModel", (), {})
sys.modules[_no_detector.__name__] = _no_detector

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples" / "timetable"))

from agent import GRAMMAR, InformationDesk, new_llm  # noqa: E402 - after its folder

import voxray  # noqa: E402 - after the stand-in


class Desk(InformationDesk):
    """The example's agent with its own models, as OpenRTC builds the session itself."""

    def __init__(self) -> None:
        super().__init__()
        self._vad = voxray.VAD()
        self._stt = voxray.STT(grammar=GRAMMAR)
        self._llm = new_llm()
        self._tts = voxray.TTS()


if __name__ == "__main__":
    # OpenRTC refuses by calls, not by CPU load: nothing to lift.
    pool = AgentPool(isolation="coroutine", enable_introspection=False, port=0)
    pool.add(
        "desk",
        Desk,
        turn_handling=TurnHandlingOptions(
            turn_detection="vad",
            endpointing={"min_delay": 0.3, "max_delay": 1.0},
            interruption={"mode": "vad"},
        ),
    )
    pool.run()
