"""Ray's errors as ours: what was tried, on which actor, and why it did not work."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    RayActorError,
    RayError,
    RayTaskError,
)

from voxray.base.errors import (
    ActorStartError,
    ConnectionFailedError,
    DeadlineError,
    VoxrayError,
)

T = TypeVar("T")


class UnavailableError(ConnectionFailedError):
    """Ray does not know yet whether the actor is dead."""


async def within(call: Awaitable[T], what: str, timeout_s: float) -> T:
    """Await a Ray call, and say in our errors what became of it.

    Raises:
        DeadlineError: no answer in time.
        UnavailableError: Ray does not know yet whether the actor is dead.
        ConnectionFailedError: the actor is dead, or there is none of that name.
        VoxrayError: what the actor itself raised; `ActorStartError` for any other error.
    """
    try:
        return await asyncio.wait_for(call, timeout_s)
    except TimeoutError as error:
        raise DeadlineError(f"could not {what}: no answer within {timeout_s:g} s") from error
    except RayTaskError as error:
        cause = error.cause if isinstance(error.cause, Exception) else error
        if isinstance(cause, VoxrayError):
            raise cause from error
        raise ActorStartError(f"could not {what}: {type(cause).__name__}: {cause}") from error
    except ActorUnavailableError as error:
        raise UnavailableError(f"could not {what}: {_death_cause(error)}") from error
    except (RayActorError, ValueError) as error:
        raise ConnectionFailedError(f"could not {what}: {_death_cause(error)}") from error
    except RayError as error:
        raise ConnectionFailedError(f"could not {what}: {error}") from error


def _death_cause(error: Exception) -> str:
    """Return the one line of Ray's long explanation that says why an actor died."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, ActorDiedError) and "creation task" in lines[0]:
        # The traceback of the constructor ends with the error itself.
        return lines[-1]
    return lines[0] if lines else type(error).__name__
