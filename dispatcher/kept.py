"""What a dispatcher that Ray restarts has to know of the one before it.

Ray makes it with the arguments of its first start; a program that came later, or a drain that had
begun, is kept beside it. `dispatcher_actor.py` says where.
"""

from typing import Protocol

from voxray.actors.contracts import ProgramInfo


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
