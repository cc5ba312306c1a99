"""How a session decides that the caller has finished, or interrupts: typed options. Pure."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from voxray.base.errors import ConfigError

PREFIX = "TURN_DETECTION_"
"""Variables of the environment are named `TURN_DETECTION_<FIELD>`."""
MIN_SILENCE_FOR_A_MODEL_MS = 250
"""Least silence that the end-of-turn models of livekit-agents take (200 ms, and 50 to spare)."""
_VAD_SILENCE_MS = 250
# As the bundled VAD: it says sooner than the turn ends that the voice has ceased.

Milliseconds = Annotated[int, Field(ge=0, le=60_000)]


class TurnOptions(BaseModel):
    """The end-of-turn settings that people know. What is not given is livekit-agents' to choose.

    Attributes:
        mode: what finds the end of a turn: `vad` (silence), `stt` (the recogniser's own end of
            speech), `model` (an end-of-turn model, where there is one) or `manual`
            (`session.commit_user_turn`).
        silence_ms: silence after which the caller's turn is over (livekit-agents: 500, or 300
            with an end-of-turn model).
        max_silence_ms: silence after which it is over also where an end-of-turn model expects
            more (livekit-agents: 3000, or 2500).
        min_speech_ms: speech shorter than this is noise (50).
        prefix_padding_ms: audio before the speech that belongs to it (500).
        threshold: probability from which audio counts as speech, between 0 and 1 (0.5).
        interruptions: whether the caller can interrupt the agent (true).
        interruption_ms: speech that interrupts the agent (500).
        interruption_words: words that interrupt it; 0 asks for none (0).
        false_interruption_ms: silence after which an interruption without words was none, and
            the agent goes on (2000).
        preemptive: whether the answer is begun before the turn is surely over (true).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["vad", "stt", "model", "manual"] | None = None
    silence_ms: Milliseconds | None = None
    max_silence_ms: Milliseconds | None = None
    min_speech_ms: Milliseconds | None = None
    prefix_padding_ms: Milliseconds | None = None
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    interruptions: bool | None = None
    interruption_ms: Milliseconds | None = None
    interruption_words: Annotated[int, Field(ge=0, le=100)] | None = None
    false_interruption_ms: Milliseconds | None = None
    preemptive: bool | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> "TurnOptions":
        silence, longest = self.silence_ms, self.max_silence_ms
        if silence is not None and longest is not None and longest < silence:
            raise ValueError(f"max_silence_ms ({longest}) is less than silence_ms ({silence})")
        if self.mode == "model" and silence is not None and silence < MIN_SILENCE_FOR_A_MODEL_MS:
            raise ValueError(
                f"silence_ms ({silence}) is less than {MIN_SILENCE_FOR_A_MODEL_MS}, which an"
                " end-of-turn model needs"
            )
        return self

    def for_vad(self) -> dict[str, float]:
        """Return the options of `voxray.VAD`, in its names and in seconds."""
        silence_ms = None
        if self.silence_ms is not None and self.silence_ms < _VAD_SILENCE_MS:
            # The voice has to have ceased when the turn is over.
            silence_ms = self.silence_ms
        return _given(
            activation_threshold=self.threshold,
            min_speech_duration=_seconds(self.min_speech_ms),
            min_silence_duration=_seconds(silence_ms),
            prefix_padding_duration=_seconds(self.prefix_padding_ms),
        )

    def for_session(self, model: Any = None) -> dict[str, Any]:
        """Return the `turn_handling` of an `AgentSession`, with nothing that was not given.

        Args:
            model: what finds the end of a turn where the mode is `model`.
        """
        mode = model if self.mode == "model" else self.mode
        parts = _given(
            turn_detection=mode,
            endpointing=_given(
                min_delay=_seconds(self.silence_ms), max_delay=_seconds(self.max_silence_ms)
            ),
            interruption=_given(
                enabled=self.interruptions,
                min_duration=_seconds(self.interruption_ms),
                min_words=self.interruption_words,
                false_interruption_timeout=_seconds(self.false_interruption_ms),
            ),
            preemptive_generation=_given(enabled=self.preemptive),
        )
        return {name: part for name, part in parts.items() if part != {}}


def turn_options(
    given: TurnOptions | Mapping[str, Any] | None, environment: Mapping[str, str]
) -> TurnOptions:
    """Return what a program gave, over what the environment says.

    Raises:
        ConfigError: names each bad value and where it comes from, and unknown variables.
    """
    named = given.model_dump(exclude_unset=True) if isinstance(given, TurnOptions) else given or {}
    variables = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(PREFIX) and value
    }
    try:
        return TurnOptions.model_validate({**variables, **named})
    except ValidationError as error:
        raise ConfigError(_explained(error, named, variables)) from error


def _explained(
    error: ValidationError, named: Mapping[str, Any], variables: Mapping[str, str]
) -> str:
    lines = []
    for fault in error.errors(include_url=False, include_context=False):
        name = str(fault["loc"][0]) if fault["loc"] else ""
        what = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            what = f"there is no such option; there are: {', '.join(TurnOptions.model_fields)}"
        elif name:
            what = f"{what}, not {fault['input']!r}"
        place = PREFIX + name.upper() if name in variables and name not in named else name
        lines.append(f"{place}: {what}" if place else what)
    return f"turn detection: {'; '.join(lines)}"


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
