"""Engines by name."""

import dataclasses
from importlib.metadata import EntryPoint

import pytest

from voxray.base.errors import EngineConfigError
from voxray.observability.events import NullSink
from voxray.pipelines.engines import registry
from voxray.pipelines.engines.base import EngineInfo, EngineKind
from voxray.pipelines.engines.phrase_cache import CachingEngine, PhraseCache
from voxray.pipelines.engines.registry import EngineSpec
from voxray.pipelines.engines.scripted import ScriptedEngine

SCRIPTED = "voxray.pipelines.engines.scripted:ScriptedEngine"


@pytest.fixture
def declare(monkeypatch):
    """Replaces what is installed by pairs of name and object."""

    def replace(*pairs):
        points = [EntryPoint(name, value, registry.ENTRY_POINT_GROUP) for name, value in pairs]
        monkeypatch.setattr(registry, "entry_points", lambda group: points)

    return replace


def test_the_engines_in_the_box_are_declared_and_import():
    assert set(registry.known_engines()) >= {
        "silero",
        "pocketsphinx",
        "espeak",
        "scripted",
        "whisper",
    }
    kinds = {
        name: registry.create_engine(name).info.kind
        for name in ("silero", "pocketsphinx", "espeak")
    }
    assert kinds == {
        "silero": EngineKind.VAD,
        "pocketsphinx": EngineKind.STT,
        "espeak": EngineKind.TTS,
    }


def test_a_third_partys_engine_is_found_and_given_its_settings(declare):
    declare(("own", SCRIPTED))
    engine = registry.create_engine("own", {"name": "own", "max_batch": 3})
    assert isinstance(engine, ScriptedEngine)
    assert engine.max_batch == 3


def test_settings_that_an_engine_does_not_take_are_told(declare):
    declare(("scripted", SCRIPTED))
    with pytest.raises(EngineConfigError, match=r"'voice'; it takes: name, kind, max_batch"):
        registry.create_engine("scripted", {"voice": "x"})


def test_unknown_names_are_told_with_the_known_ones(declare):
    declare(("b", SCRIPTED), ("a", SCRIPTED))
    with pytest.raises(EngineConfigError, match="'c'; known: a, b"):
        registry.create_engine("c")


def test_a_name_taken_by_two_packages_is_reported(declare):
    declare(("own", SCRIPTED), ("own", "elsewhere:Engine"))
    with pytest.raises(EngineConfigError, match=r"more than once.*elsewhere:Engine"):
        registry.check_names(["own"])


def test_the_same_package_seen_twice_is_no_conflict(declare):
    declare(("own", SCRIPTED), ("own", SCRIPTED))
    registry.check_names(["own"])


def test_asking_twice_for_an_engine_is_a_mistake(declare):
    declare(("own", SCRIPTED))
    with pytest.raises(EngineConfigError, match="named twice: own"):
        registry.check_names(["own", "own"])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("voxray_not_there:Engine", "can't be imported: ModuleNotFoundError"),
        ("voxray.pipelines.engines.scripted:Nothing", "can't be imported: AttributeError"),
        ("builtins:dict", "is not an Engine: it has no info"),
        ("sys:path", "is not an Engine: it can't be called"),
        (SCRIPTED, "is not an Engine: it calls itself 'scripted'"),
        (f"{__name__}:broken_constructor", "can't be made: OSError: no licence"),
        (f"{__name__}:BrokenInfo", "is not an Engine: its info raises KeyError"),
        (f"{__name__}:WithoutLoad", "is not an Engine: it has no method load"),
        (f"{__name__}:OpensNothing", "is not an Engine: open does not take 1 argument$"),
    ],
)
def test_what_is_no_engine_is_told_and_the_others_are_unaffected(declare, value, message):
    declare(("own", value), ("scripted", SCRIPTED))
    with pytest.raises(EngineConfigError, match=message):
        registry.create_engine("own")
    assert registry.known_engines() == ("own", "scripted")
    registry.check_names(["own", "scripted"])
    assert isinstance(registry.create_engine("scripted"), ScriptedEngine)


def broken_constructor():
    raise OSError("no licence")


class BrokenInfo(ScriptedEngine):
    @property
    def info(self):
        raise KeyError("info")


class WithoutLoad(ScriptedEngine):
    name = "own"
    load = None

    def __init__(self):
        super().__init__(name="own")


class OpensNothing(ScriptedEngine):
    def __init__(self):
        super().__init__(name="own")

    def open(self):
        raise NotImplementedError


def test_the_first_of_a_kind_is_its_default():
    infos = [
        EngineInfo(name=name, kind=kind, model="m", provider="p", sample_rate=16_000)
        for name, kind in (("a", EngineKind.STT), ("b", EngineKind.TTS), ("c", EngineKind.STT))
    ]
    assert registry.default_engine("stt", infos) is infos[0]
    assert registry.default_engine("vad", infos) is None


@pytest.mark.parametrize(
    ("settings", "cached"),
    [({"kind": EngineKind.TTS}, True), ({"kind": EngineKind.STT}, False)],
)
def test_what_speaks_is_given_the_phrases_of_its_replica(declare, settings, cached):
    declare(("scripted", SCRIPTED))
    phrases = PhraseCache(1000, NullSink())
    engine = EngineSpec("scripted", settings, phrases).create()
    assert isinstance(engine, CachingEngine) == cached
    assert isinstance(EngineSpec("scripted", settings).create(), ScriptedEngine)
    empty = PhraseCache(0, NullSink())
    assert isinstance(EngineSpec("scripted", settings, empty).create(), ScriptedEngine)


def test_an_engine_whose_speech_hangs_on_more_than_the_text_is_not_cached(declare):
    declare(("own", f"{__name__}:Moody"))
    assert isinstance(EngineSpec("own", phrases=PhraseCache(1000, NullSink())).create(), Moody)


class Moody(ScriptedEngine):
    @property
    def info(self):
        return dataclasses.replace(super().info, name="own", kind=EngineKind.TTS, cacheable=False)
