"""What a start does about an app of its name that runs already. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import BaseModel

from voxray.actors.contracts import ProgramInfo
from voxray.base.errors import ConfigError
from voxray.base.settings import Settings

# What belongs to the command rather than to the app that it starts.
_OF_THE_COMMAND = frozenset({"ray", "drain_timeout_s"})
_OVER = frozenset({"drained", "failed"})


class Takeover(StrEnum):
    """What is done with what runs."""

    NOTHING = "nothing"
    """Nothing runs that could be taken over: start the app."""
    ATTACH = "attach"
    """The same app with the same program runs: go on with it."""
    RENEW = "renew"
    """It runs another version of the program: give it this one, and keep its calls."""
    REPLACE = "replace"
    """It runs with other settings: drain it, then start the app."""


@dataclass(frozen=True, kw_only=True)
class RunningDispatcher:
    """A dispatcher of the app that is alive on the cluster.

    Attributes:
        phase: starting, running, draining, drained or failed.
        settings, program: what it was started with.
    """

    phase: str
    settings: Settings
    program: ProgramInfo


def decide(
    running: Iterable[RunningDispatcher],
    settings: Settings,
    program: ProgramInfo,
    *,
    replace: bool,
) -> Takeover:
    """Decide what a start does.

    Args:
        running: the app's dispatchers that are alive.
        settings, program: of the start.
        replace: whether the user wants these, whatever runs.

    Raises:
        ConfigError: the app runs with others, and the user has not said that they are to change.
    """
    alive = [each for each in running if each.phase not in _OVER]
    if not alive:
        return Takeover.NOTHING
    changed = sorted({name for each in alive for name in differences(each.settings, settings)})
    app = settings.app
    if replace and (changed or any(each.phase == "draining" for each in alive)):
        return Takeover.REPLACE
    if changed:
        raise ConfigError(
            f"app {app} runs already on this cluster with other settings "
            f"({', '.join(changed)}); start it with the same ones, give this one another name "
            "(--app), or let it take the place of the other (--replace)"
        )
    if any(each.phase == "draining" for each in alive):
        raise ConfigError(
            f"app {app} is draining on this cluster; wait until it has ended, or end it now and "
            "take its place (--replace)"
        )
    if all(each.program == program for each in alive):
        return Takeover.ATTACH
    if replace:
        return Takeover.RENEW
    raise ConfigError(
        f"app {app} runs already on this cluster with another program or version "
        f"({alive[0].program.path}); give this one another name (--app), or let new calls have "
        "this one (--replace; running calls keep theirs)"
    )


def differences(old: Settings, new: Settings) -> list[str]:
    """Return the names of the settings that differ; never their values, which may be secret."""
    names = _differing(old, new)
    return [name for name in names if name.partition(".")[0] not in _OF_THE_COMMAND]


def _differing(old: BaseModel, new: BaseModel) -> list[str]:
    found: list[str] = []
    for name in type(new).model_fields:
        before: Any = getattr(old, name, None)
        after: Any = getattr(new, name)
        if isinstance(before, BaseModel) and isinstance(after, BaseModel):
            found.extend(f"{name}.{inner}" for inner in _differing(before, after))
        elif before != after:
            found.append(name)
    return found
