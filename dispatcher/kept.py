"""What a dispatcher that Ray restarts has to know of the one before it.

Ray makes it with the arguments of its first start; a program that came later, or a drain that had
begun, is kept beside it. `dispatcher_actor.py` says where.
"""

import asyncio
import math
from typing import Protocol

from voxray.actors.contracts import ProgramInfo
from voxray.base.timing import Clock


class KeptStore(Protocol):
    """Small values that outlive the process, each under a name. May block for a moment."""

    def get(self, name: str) -> bytes | None:
        """Return a value; None if there is none."""
        ...

    def put(self, name: str, value: bytes) -> None:
        """Keep a value in place of an earlier one."""
        ...


class Kept:
    """The program that an app was changed to, and until when its drain lasts."""

    def __init__(self, store: KeptStore) -> None:
        self._store = store

    def keep_program(self, program: ProgramInfo) -> None:
        """Remember the program of now."""
        self._store.put("program", program.model_dump_json().encode())

    def program(self) -> ProgramInfo | None:
        """Return the program that the app was last changed to; None if it never was."""
        kept = self._store.get("program")
        return ProgramInfo.model_validate_json(kept) if kept else None

    def keep_drain(self, until: float) -> None:
        """Remember that a drain goes on until then (Unix seconds)."""
        self._store.put("drain", repr(until).encode())

    def drain_until(self) -> float | None:
        """Return until when a drain goes on (Unix seconds); None if none has begun."""
        kept = self._store.get("drain")
        return float(kept) if kept else None


class DrainTime:
    """Until when the app drains: the shortest time that was ever asked for."""

    def __init__(self, clock: Clock, kept: Kept | None) -> None:
        self._clock = clock
        self._kept = kept
        self._until = math.inf
        self._keeping = asyncio.Lock()

    def begin(self, timeout_s: float) -> None:
        """Take a drain, or a shorter one."""
        self._until = min(self._until, self._clock.monotonic() + timeout_s)

    @property
    def left_s(self) -> float:
        """Seconds that are left for calls; infinite while nothing drains."""
        return max(0.0, self._until - self._clock.monotonic())

    async def keep(self) -> None:
        """Keep it for the dispatcher that Ray may make after us; one write at a time."""
        if self._kept is None:
            return
        async with self._keeping:
            # The store may block while Ray's head is away; calls must not.
            await asyncio.to_thread(self._kept.keep_drain, self._clock.wall() + self.left_s)

    def left_from_before_s(self) -> float | None:
        """Return what is left of a drain that the dispatcher before us had begun, if it had."""
        until = self._kept.drain_until() if self._kept is not None else None
        return None if until is None else max(0.0, until - self._clock.wall())
