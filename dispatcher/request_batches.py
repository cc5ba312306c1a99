"""Gathers questions to the programs of hosts into few calls.

A call of an actor costs a millisecond or two on both sides: a burst of two hundred offers would
wait half a second for as many. While one call is under way, what comes meanwhile gathers for the
next, so a single question never waits. A `request_fnc` that takes long holds nobody up: the host
answers for it with None after a moment, and is asked about it on its own.
"""

import asyncio
import itertools
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from voxray.actors.contracts import RequestAnswer
from voxray.base.errors import VoxrayError
from voxray.base.ids import HostId
from voxray.base.lifecycle import TaskOwner

BATCH_LIMIT = 64
"""Questions in one call at most: the first answers of a large burst need not wait for its last."""

Ask: TypeAlias = Callable[
    [HostId, Sequence[tuple[str, bytes]]], Awaitable[Sequence[RequestAnswer | None]]
]
AskLate: TypeAlias = Callable[[HostId, str], Awaitable[RequestAnswer]]


@dataclass(frozen=True, kw_only=True)
class _Question:
    ticket: str
    job: bytes
    answer: "asyncio.Future[RequestAnswer | None]"


class RequestBatches:
    """Asks hosts in batches, one call a host at a time.

    Args:
        ask: asks a host about (ticket, serialised job) pairs; None stands for "not yet".
        ask_late: waits for the answer to a ticket that was not there yet.
    """

    def __init__(self, ask: Ask, ask_late: AskLate) -> None:
        self._ask = ask
        self._ask_late = ask_late
        self._tasks = TaskOwner("request-batches")
        self._waiting: dict[HostId, list[_Question]] = {}
        self._sending: set[HostId] = set()
        # Another dispatcher, or this one before a restart, may have asked the same host.
        self._prefix = secrets.token_hex(4)
        self._numbers = itertools.count()

    async def request(self, host_id: HostId, job: bytes) -> RequestAnswer:
        """Return the program's answer for a serialised job.

        Raises:
            VoxrayError: the host could not be asked.
        """
        question = _Question(
            ticket=f"{self._prefix}-{next(self._numbers)}",
            job=job,
            answer=asyncio.get_running_loop().create_future(),
        )
        self._waiting.setdefault(host_id, []).append(question)
        if host_id not in self._sending:
            self._sending.add(host_id)
            self._tasks.spawn(f"ask-{host_id}", self._send(host_id))
        answer = await question.answer
        return answer if answer is not None else await self._ask_late(host_id, question.ticket)

    async def aclose(self) -> None:
        """Ask nobody any more. Idempotent."""
        await self._tasks.aclose()

    async def _send(self, host_id: HostId) -> None:
        try:
            while waiting := self._waiting.pop(host_id, None):
                batch, later = waiting[:BATCH_LIMIT], waiting[BATCH_LIMIT:]
                if later:
                    self._waiting[host_id] = later
                await self._send_batch(host_id, [each for each in batch if not each.answer.done()])
        finally:
            self._sending.discard(host_id)

    async def _send_batch(self, host_id: HostId, batch: list[_Question]) -> None:
        if not batch:
            return
        try:
            answers = await self._ask(host_id, [(each.ticket, each.job) for each in batch])
        except VoxrayError as error:
            for each in batch:
                if not each.answer.done():
                    each.answer.set_exception(error)
            return
        for each, answer in zip(batch, answers, strict=True):
            if not each.answer.done():
                each.answer.set_result(answer)
