"""From the windows of one stretch of audio to the events of livekit-agents."""

import logging

from livekit.agents import vad

from voxray.base.timing import Clock
from voxray.pipelines.engines.base import ProbabilityOutput
from voxray.pipelines.plugins.frames import mono_frame
from voxray.pipelines.plugins.vad_audio import VADAudio
from voxray.pipelines.plugins.vad_edges import Happening, Moment, SpeechEdges, VADOptions

logger = logging.getLogger(__name__)

_WINDOW_S = 0.032
# Silero's, before the engine has shown its own.
_SLOW_S = 0.2
# A window that takes longer is worth a warning; the bundled VAD warns from the same value.

_TYPES = {
    Moment.ANALYSED: vad.VADEventType.INFERENCE_DONE,
    Moment.SPEECH_STARTED: vad.VADEventType.START_OF_SPEECH,
    Moment.SPEECH_ENDED: vad.VADEventType.END_OF_SPEECH,
}


class VADSegment:
    """Audio between two flushes of a VAD stream. Pure but for the clock and its log lines."""

    def __init__(self, rate: int, options: VADOptions, clock: Clock) -> None:
        self.rate = rate
        self._clock = clock
        self._edges = SpeechEdges(options)
        self._audio = VADAudio(rate, options.prefix_padding_duration, options.max_buffered_speech)
        self._engine_rate = 0
        self._window_samples = 0
        self._attached_s = clock.monotonic()
        self._heard_upto = 0
        self._behind_s = 0.0
        self._told_full = False

    def configure(self, options: VADOptions) -> None:
        """Judge the windows that follow by other options."""
        self._edges.options = options
        self._audio.configure(options.prefix_padding_duration, options.max_buffered_speech)

    @property
    def idle(self) -> bool:
        """Whether nobody speaks just now, or begins to."""
        return self._edges.idle

    @property
    def stalled_s(self) -> float:
        """Seconds that the engine has owed a window, since it was given the audio of it."""
        samples = self._window_samples or int(_WINDOW_S * self._engine_rate)
        due_s = self._audio.due_since(samples, self._engine_rate)
        if due_s is None:
            return 0.0
        return self._clock.monotonic() - max(due_s, self._attached_s)

    def attach(self, engine_rate: int) -> bytes:
        """Go on with a new stream of an engine; return the audio that it has to be given first.

        Speech that had begun goes on, and nothing of the audio is lost: what the stream before
        left unheard is heard now.
        """
        self._engine_rate = engine_rate
        self._attached_s = self._clock.monotonic()
        context, unheard = self._audio.again()
        # Windows up to here were judged already.
        self._heard_upto = len(context) // 2 * engine_rate // self.rate
        return context + unheard

    def push(self, pcm: bytes) -> None:
        """Take audio that goes to the engine now."""
        self._audio.push(pcm, self._clock.monotonic())

    def take(self, window: ProbabilityOutput) -> list[vad.VADEvent]:
        """Return the events of one analysed window."""
        samples = window.end_sample - self._heard_upto
        if samples <= 0:  # A replica that took over heard the end of the audio again.
            return []
        self._heard_upto = window.end_sample
        self._window_samples = samples
        pcm = self._audio.take(samples, self._engine_rate)
        window_s = samples / self._engine_rate
        delay_s = self._audio.served_after(self._clock.monotonic())
        self._watch_pace(delay_s, window_s)
        events = [
            self._event(happening, window.probability, delay_s, pcm)
            for happening in self._edges.push(window.probability, samples, window_s)
        ]
        if self._edges.idle:
            self._audio.trim()
            self._told_full = False
        return events

    def _event(
        self, happening: Happening, probability: float, delay_s: float, pcm: bytes
    ) -> vad.VADEvent:
        analysed = happening.moment is Moment.ANALYSED
        return vad.VADEvent(
            type=_TYPES[happening.moment],
            samples_index=happening.samples_index,
            timestamp=happening.timestamp_s,
            speech_duration=happening.speech_s,
            silence_duration=happening.silence_s,
            frames=[mono_frame(pcm if analysed else self._audio.speech(), self.rate)],
            probability=probability if analysed else 0.0,
            # Also on edges: the session subtracts it to find when the voice began or ceased.
            inference_duration=delay_s,
            speaking=happening.speaking,
            raw_accumulated_silence=happening.unbroken_silence_s,
            raw_accumulated_speech=happening.unbroken_speech_s,
        )

    def _watch_pace(self, delay_s: float, window_s: float) -> None:
        self._behind_s = max(0.0, self._behind_s + delay_s - window_s)
        if delay_s > _SLOW_S:
            logger.warning("VAD inference is slower than realtime", extra={"delay": self._behind_s})
        if self._audio.full and not self._told_full:
            self._told_full = True
            logger.warning(
                "max_buffered_speech reached, ignoring further data for the current speech input"
            )
