"""The app's other dispatchers, asked by Ray calls: those reach any node, the HTTP API may not."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from voxray.base.errors import VoxrayError
from voxray.dispatcher.fleet import DispatcherEndedError

ASK_S = 2.0
"""How long a dispatcher may take to answer another one; it answers from memory."""


class Question(StrEnum):
    """What one dispatcher asks another one; each is about that one alone."""

    STATUS = "status"
    """What its own `/status` shows."""
    TARGETS = "targets"
    """What its own `/sd` shows."""
    STORY = "story"
    """The story of a job (the argument is its id), or None."""
    JOBS = "jobs"
    """What its own `/jobs` shows."""
    DRAIN = "drain"
    """Drain within seconds (the argument; None for the settings' time)."""


@dataclass(frozen=True, kw_only=True)
class PeerAnswer:
    """What another dispatcher answered.

    Attributes:
        index: which one.
        exists: False once Ray knows no such dispatcher any more.
        content: plain data; None when there was no answer.
        fault: why there was none, or empty.
    """

    index: int
    exists: bool = True
    content: Any = None
    fault: str = ""


class Peers:
    """Asks the others, all at once; one that does not answer costs no more than `ASK_S`.

    Args:
        others: their numbers.
        ask: puts a question to one; raises `DispatcherEndedError` where there is no such
            dispatcher, and another VoxrayError where it does not answer.
    """

    def __init__(
        self,
        others: Sequence[int],
        ask: Callable[[int, str, object], Awaitable[Any]],
    ) -> None:
        self._others = tuple(others)
        self._ask_one = ask

    @property
    def others(self) -> tuple[int, ...]:
        """The numbers of the other dispatchers."""
        return self._others

    async def ask(self, question: Question, argument: object = None) -> list[PeerAnswer]:
        """Return the answer of each, in their order."""
        asked = (self._ask(index, question, argument) for index in self._others)
        return list(await asyncio.gather(*asked))

    async def ask_one(self, index: int, question: Question, argument: object = None) -> PeerAnswer:
        """Return the answer of one."""
        return await self._ask(index, question, argument)

    async def _ask(self, index: int, question: Question, argument: object) -> PeerAnswer:
        try:
            async with asyncio.timeout(ASK_S):
                content = await self._ask_one(index, question.value, argument)
        except DispatcherEndedError as error:
            return PeerAnswer(index=index, exists=False, fault=str(error))
        except VoxrayError as error:
            return PeerAnswer(index=index, fault=str(error))
        except TimeoutError:
            return PeerAnswer(index=index, fault=f"no answer within {ASK_S:g} s")
        return PeerAnswer(index=index, content=content)
