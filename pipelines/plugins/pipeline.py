"""`voxray.pipeline`: the parts of an `AgentSession` by the name of a whole pipeline."""

import importlib
import os
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, TypeAlias, TypeVar

from livekit.agents import stt, tts
from pydantic import BaseModel, ConfigDict, ValidationError

from voxray.base.errors import ConfigError, MissingPartError
from voxray.pipelines.plugins.stt import STT
from voxray.pipelines.plugins.tts import TTS
from voxray.pipelines.plugins.vad import VAD
from voxray.pipelines.turn_options import TurnOptions, turn_options

Parts: TypeAlias = dict[str, Any]
Builder: TypeAlias = Callable[[TurnOptions, Mapping[str, Any]], Parts]
"""Makes `stt`, `tts`, `vad`, `llm`, or what else an `AgentSession` takes, from the options."""


class _Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LocalOptions(_Options):
    """Options of `local`.

    Attributes:
        stt: keyword arguments of `voxray.STT`.
        tts: keyword arguments of `voxray.TTS`.
        vad: keyword arguments of `voxray.VAD`, over the end-of-turn settings.
    """

    stt: dict[str, Any] = {}
    tts: dict[str, Any] = {}
    vad: dict[str, Any] = {}


class OpenAIOptions(LocalOptions):
    """Options of `openai-compatible` and `local-first`, beside those of `local`.

    Attributes:
        base_url: address of the server; None takes OPENAI_BASE_URL, and else OpenAI's own.
        api_key: key of the server; None takes OPENAI_API_KEY.
        model: language model.
        stt_model: speech recognition of the server.
        tts_model: speech synthesis of the server.
        voice: voice of the server.
    """

    base_url: str | None = None
    api_key: str | None = None
    model: str = "gpt-4o-mini"
    stt_model: str | None = None
    tts_model: str | None = None
    voice: str | None = None


T = TypeVar("T", bound=_Options)
_builders: dict[str, Builder] = {}


def register_pipeline(name: str) -> Callable[[Builder], Builder]:
    """Register a pipeline of a program's own under a name; decorates what builds its parts.

    Raises:
        ConfigError: the name is taken.
    """
    if name in _builders:
        raise ConfigError(f"there is a pipeline {name!r} already")

    def register(builder: Builder) -> Builder:
        _builders[name] = builder
        return builder

    return register


def pipeline(
    name: str = "local",
    *,
    turn: TurnOptions | Mapping[str, Any] | None = None,
    llm: Any = None,
    **options: Any,
) -> Parts:
    """Return the keyword arguments for an `AgentSession`.

    Args:
        name: `local` (voxray's own STT, TTS and VAD), `openai-compatible` (a server's language
            model, and its STT and TTS where models of them are named), `local-first` (voxray's
            STT and TTS, and the server's while they fail), or one that was registered.
        turn: when the caller's turn is over and what interrupts the agent; over the variables
            `TURN_DETECTION_*` of the environment.
        llm: the language model; None leaves out `llm`, or takes the pipeline's own.
        options: those of the pipeline.

    Returns:
        `stt`, `tts`, `vad`, `turn_handling`, and `llm` where there is one.

    Raises:
        ConfigError: no such pipeline, or an option or variable is wrong.
        MissingPartError: the pipeline needs a package that is not installed.
        EngineConfigError: a file of an engine's options can't be read.
    """
    builder = _builders.get(name)
    if builder is None:
        raise ConfigError(
            f"there is no pipeline {name!r}; there are: {', '.join(sorted(_builders))}"
        )
    chosen = turn_options(turn, os.environ)
    if llm is not None:
        options = {**options, "llm": llm}
    parts = builder(chosen, options)
    parts.setdefault("turn_handling", chosen.for_session(_turn_model(chosen)))
    return parts


@register_pipeline("local")
def _local(turn: TurnOptions, options: Mapping[str, Any]) -> Parts:
    read, llm = _read("local", LocalOptions, options)
    return _ours(turn, read) | llm


@register_pipeline("openai-compatible")
def _openai_compatible(turn: TurnOptions, options: Mapping[str, Any]) -> Parts:
    read, llm = _read("openai-compatible", OpenAIOptions, options)
    return _ours(turn, read) | _of_server(read) | llm


@register_pipeline("local-first")
def _local_first(turn: TurnOptions, options: Mapping[str, Any]) -> Parts:
    read, llm = _read("local-first", OpenAIOptions, options)
    if not (read.stt_model or read.tts_model):
        raise ConfigError("pipeline local-first: give stt_model, tts_model, or both")
    ours, server = _ours(turn, read), _of_server(read)
    if "stt" in server:
        server["stt"] = stt.FallbackAdapter([ours["stt"], server["stt"]], vad=ours["vad"])
    if "tts" in server:
        server["tts"] = tts.FallbackAdapter([ours["tts"], server["tts"]])
    return ours | server | llm


def _ours(turn: TurnOptions, options: LocalOptions) -> Parts:
    return {
        "stt": _made("stt", STT, options.stt),
        "tts": _made("tts", TTS, options.tts),
        "vad": _made("vad", VAD, {**turn.for_vad(), **options.vad}),
    }


def _made(kind: str, plugin: Callable[..., Any], options: Mapping[str, Any]) -> Any:
    try:
        return plugin(**options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"pipeline, {kind}: {error}") from error


def _of_server(options: OpenAIOptions) -> Parts:
    openai = _openai_plugin()
    place: dict[str, Any] = {}
    if options.base_url:
        # Servers on one's own machine want some key, and look at none.
        place = {"base_url": options.base_url, "api_key": os.environ.get("OPENAI_API_KEY", "none")}
    if options.api_key:
        place["api_key"] = options.api_key
    elif not place and not os.environ.get("OPENAI_API_KEY"):
        raise ConfigError("the pipeline needs api_key, base_url or the variable OPENAI_API_KEY")
    parts = {"llm": openai.LLM(model=options.model, **place)}
    if options.stt_model:
        parts["stt"] = openai.STT(model=options.stt_model, **place)
    if options.tts_model:
        voice = {"voice": options.voice} if options.voice else {}
        parts["tts"] = openai.TTS(model=options.tts_model, **voice, **place)
    return parts


def _openai_plugin() -> ModuleType:
    try:
        return importlib.import_module("livekit.plugins.openai")
    except ImportError as error:
        raise MissingPartError(
            "the pipeline asks an OpenAI-compatible server, and its plugin is not installed: "
            "run `pip install livekit-plugins-openai`"
        ) from error


def _turn_model(turn: TurnOptions) -> Any:
    if turn.mode != "model":
        return None
    from livekit.agents import inference  # noqa: PLC0415 - a model that few ask for

    return inference.TurnDetector(version="v1-mini")


def _read(name: str, kind: type[T], options: Mapping[str, Any]) -> tuple[T, dict[str, Any]]:
    llm = {"llm": options["llm"]} if "llm" in options else {}
    given = {key: value for key, value in options.items() if key != "llm"}
    try:
        return kind.model_validate(given), llm
    except ValidationError as error:
        faults = "; ".join(
            f"{fault['loc'][0]}: "
            + (
                f"no such option; there are: llm, turn, {', '.join(kind.model_fields)}"
                if fault["type"] == "extra_forbidden"
                else fault["msg"]
            )
            for fault in error.errors(include_url=False, include_input=False)
        )
        raise ConfigError(f"pipeline {name}: {faults}") from error
