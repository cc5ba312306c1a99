"""livekit-agents' bundled VAD, with the probabilities that a test gives it."""

import asyncio

from livekit import rtc
from livekit.agents import inference, vad

from voxray.pipelines.plugins.vad_edges import VADOptions

WINDOW = 512
"""Samples of one window at 16 kHz."""


class GivenModel:
    """Takes the place of the native model."""

    def __init__(self, probabilities: list[float]) -> None:
        self._left = iter(probabilities)

    def predict(self, _window: object) -> float:
        return next(self._left)

    def reset(self) -> None:
        pass


def bundled_events(
    options: VADOptions, probabilities: list[float], pcm: bytes
) -> list[vad.VADEvent]:
    """Return what the bundled VAD says about 16 kHz audio."""

    async def run() -> list[vad.VADEvent]:
        given = {
            "activation_threshold": options.activation_threshold,
            "min_speech_duration": options.min_speech_duration,
            "min_silence_duration": options.min_silence_duration,
            "prefix_padding_duration": options.prefix_padding_duration,
            "max_buffered_speech": options.max_buffered_speech,
        }
        if options.deactivation_threshold is not None:
            given["deactivation_threshold"] = options.deactivation_threshold
        stream = inference.VAD(**given).stream()
        stream._native_vad = GivenModel(probabilities)
        stream.push_frame(
            rtc.AudioFrame(
                data=pcm, sample_rate=16_000, num_channels=1, samples_per_channel=len(pcm) // 2
            )
        )
        stream.end_input()
        events = [event async for event in stream]
        await stream.aclose()
        return events

    return asyncio.run(run())
