"""Engine names to engines: the entry points of the group `voxray.engines`, loaded on demand.

A third party adds an engine by declaring such an entry point, whose object is called with the
engine's settings (`inference.groups[].engine_settings`) as keyword arguments and returns an
`Engine`. What is wrong with one engine is told when that one is created; the others never notice.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from voxray.base.errors import EngineConfigError
from voxray.pipelines.engines.base import Engine, EngineInfo, EngineKind
from voxray.pipelines.engines.phrase_cache import CachingEngine, PhraseCache

ENTRY_POINT_GROUP = "voxray.engines"

_METHODS: Mapping[str, int] = {"load": 0, "open": 1, "run_batch": 1, "close": 0}
# The methods of `Engine`, and how many arguments each is called with.


@dataclass(frozen=True)
class EngineSpec:
    """An engine that a replica is to host.

    Attributes:
        name: its name in the registry.
        settings: what its constructor is called with, by keyword.
        phrases: what its replica has spoken before, if that is to be used again.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    phrases: PhraseCache | None = None

    def create(self) -> Engine:
        """Import and construct it; `create_engine` says what may be wrong."""
        engine = create_engine(self.name, self.settings)
        info = engine.info
        if self.phrases is None or not self.phrases.limit_bytes:
            return engine
        if info.kind is not EngineKind.TTS or not info.cacheable:
            return engine
        return CachingEngine(engine, self.phrases)


def known_engines() -> tuple[str, ...]:
    """Return the names of all installed engines, sorted."""
    return tuple(sorted(_installed().keys()))


def create_engine(name: str, settings: Mapping[str, Any] | None = None) -> Engine:
    """Import and construct an engine; its model is not loaded yet.

    Args:
        name: the engine's name.
        settings: what its constructor is called with, by keyword.

    Raises:
        EngineConfigError: the name is unknown or taken twice, the engine does not import or is
            none, or it does not take the settings.
    """
    return _create(_pick(name, _installed()), settings or {})


def check_names(names: Sequence[str]) -> None:
    """Check names without importing what they stand for.

    Raises:
        EngineConfigError: a name is unknown, occurs twice, or is declared by two packages.
    """
    installed = _installed()
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise EngineConfigError(f"engine named twice: {', '.join(twice)}")
    for name in names:
        _pick(name, installed)


def default_engine(kind: str, infos: Iterable[EngineInfo]) -> EngineInfo | None:
    """Return the engine that a kind stands for among `infos`: the first one of that kind."""
    return next((info for info in infos if info.kind == kind), None)


def _installed() -> dict[str, list[EntryPoint]]:
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=ENTRY_POINT_GROUP):
        declared = found.setdefault(point.name, [])
        # The same distribution may be seen twice on the path (editable and installed).
        if all(point.value != other.value for other in declared):
            declared.append(point)
    return found


def _pick(name: str, installed: dict[str, list[EntryPoint]]) -> EntryPoint:
    declared = installed.get(name, [])
    if not declared:
        known = ", ".join(sorted(installed)) or "none: is the voxray package installed?"
        raise EngineConfigError(f"no engine is called {name!r}; known: {known}")
    if len(declared) > 1:
        places = ", ".join(point.value for point in declared)
        raise EngineConfigError(
            f"engine {name!r} is declared more than once ({places}): uninstall all but one"
        )
    return declared[0]


def _create(point: EntryPoint, settings: Mapping[str, Any]) -> Engine:
    engine_name = f"engine {point.name!r} ({point.value})"
    try:
        factory = point.load()
    except Exception as error:
        raise EngineConfigError(
            f"{engine_name} can't be imported: {type(error).__name__}: {error}"
        ) from error
    if not callable(factory):
        raise EngineConfigError(f"{engine_name} is not an Engine: it can't be called")
    _check_settings(engine_name, factory, settings)
    try:
        engine = factory(**settings)
    except EngineConfigError:
        raise
    except Exception as error:
        raise EngineConfigError(
            f"{engine_name} can't be made: {type(error).__name__}: {error}"
        ) from error
    if fault := _fault(engine, point.name):
        raise EngineConfigError(f"{engine_name} is not an Engine: {fault}")
    return engine  # type: ignore[no-any-return]  # Entry points are untyped; checked above.


def _check_settings(
    engine_name: str, factory: Callable[..., Any], settings: Mapping[str, Any]
) -> None:
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):
        return  # Native code may not tell; then the call does.
    try:
        signature.bind(**settings)
    except TypeError as error:
        takes = ", ".join(signature.parameters) or "none"
        raise EngineConfigError(
            f"{engine_name} was given the wrong settings: {error}; it takes: {takes}"
        ) from error


def _fault(engine: Any, name: str) -> str | None:
    """Return in what an object differs from the protocol, if it does."""
    try:
        info = getattr(engine, "info", None)
    except Exception as error:
        return f"its info raises {type(error).__name__}: {error}"
    if not isinstance(info, EngineInfo):
        return "it has no info"
    if info.name != name:
        # Streams are opened by the name in the info: under another one it is never found.
        return f"it calls itself {info.name!r} in its info"
    for method, count in _METHODS.items():
        function = getattr(engine, method, None)
        if not callable(function):
            return f"it has no method {method}"
        try:
            inspect.signature(function).bind(*([None] * count))
        except TypeError:
            return f"{method} does not take {count} argument{'' if count == 1 else 's'}"
        except ValueError:
            continue
    return None
