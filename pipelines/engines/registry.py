"""Engine names to engines: the entry points of the group `voxray.engines`, loaded on demand.

A third party adds an engine by declaring such an entry point, whose object is called without
arguments and returns an `Engine`.
"""

from collections.abc import Iterable, Sequence
from importlib.metadata import EntryPoint, entry_points

from voxray.base.errors import EngineConfigError
from voxray.pipelines.engines.base import Engine, EngineInfo

ENTRY_POINT_GROUP = "voxray.engines"


def known_engines() -> tuple[str, ...]:
    """Return the names of all installed engines, sorted."""
    return tuple(sorted(_installed().keys()))


def create_engine(name: str) -> Engine:
    """Import and construct an engine; its model is not loaded yet.

    Raises:
        EngineConfigError: the name is unknown or taken twice, or the engine does not import.
    """
    return _create(name, _installed())


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


def _create(name: str, installed: dict[str, list[EntryPoint]]) -> Engine:
    point = _pick(name, installed)
    try:
        engine = point.load()()
    except Exception as error:
        raise EngineConfigError(
            f"engine {name!r} ({point.value}) can't be imported: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(getattr(engine, "info", None), EngineInfo):
        raise EngineConfigError(f"engine {name!r} ({point.value}) is not an Engine: it has no info")
    return engine  # type: ignore[no-any-return]  # Entry points are untyped; checked above.
