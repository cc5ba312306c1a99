"""Where the engine of a VAD stream runs: on a replica, or in this process while there is none."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Literal, TypeAlias

from voxray.base.errors import VoxrayError
from voxray.base.lifecycle import TaskOwner
from voxray.base.timing import Backoff
from voxray.pipelines import runtime
from voxray.pipelines.plugins.exchange import opened
from voxray.pipelines.streams import InferenceClient, InferenceStream, StreamTerms

logger = logging.getLogger(__name__)

Placement: TypeAlias = Literal["replica", "host"]

FALLBACK = "vad"
"""What runs in this process meanwhile: the default engine, whatever the replicas run."""
_OPEN_TIMEOUT_S = 10.0
# As livekit-agents' for others; a VAD has no connect options there.
_FIRST_TIMEOUT_S = 3.0
_FIRST_WAIT_S = 1.0
# At the beginning of a call: connections may have to be made.
_NEXT_TIMEOUT_S = 0.5
# When its replica was lost amid the call, which is deaf meanwhile.
_RETURN = Backoff(first_s=1.0, limit_s=15.0)
# How long to stay in this process before the replicas are asked again.


class EnginePlaces:
    """Opens the engine's streams for one VAD stream, and says when to go back to the replicas."""

    def __init__(self, engine: str, placement: Placement) -> None:
        self._engine = engine
        self._placement = placement
        self._served = False
        self.remote = False
        """Whether a replica serves the stream that was opened last."""
        self._returned: tuple[AsyncExitStack, InferenceStream] | None = None
        self._tasks = TaskOwner("vad-places")
        self._search: asyncio.Task[None] | None = None
        self._rng = random.Random()  # noqa: S311 - spreads attempts, guards nothing

    @property
    def should_move(self) -> bool:
        """Whether a replica serves the call again while it is served in this process."""
        return self._returned is not None

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[InferenceStream]:
        """Open a stream, and close it at the end.

        Raises:
            VoxrayError: neither a replica nor this process can serve it; why no replica can.
        """
        async with AsyncExitStack() as stack:
            yield await self._open(stack)

    async def aclose(self) -> None:
        """Look for no replica any more. Idempotent."""
        await self._tasks.aclose()
        if self._returned is not None:
            (stack, _), self._returned = self._returned, None
            await stack.aclose()

    async def _open(self, stack: AsyncExitStack) -> InferenceStream:
        if self._returned is not None:
            (found, stream), self._returned = self._returned, None
            stack.push_async_exit(found)
            self.remote = True
            return stream
        if self._placement == "host":
            return await self._here(stack, self._engine)
        client = runtime.current()
        if client is runtime.local():
            return await self._here(stack, self._engine)
        try:
            stream = await self._there(stack, client)
        except VoxrayError as error:
            try:
                stream = await self._here(stack, FALLBACK)
            except VoxrayError:
                raise error from None
            logger.warning(
                "no replica serves the VAD of a call; it goes on in this process",
                extra={"reason": str(error)},
            )
            self._look_for_replica(client)
        return stream

    async def _there(self, stack: AsyncExitStack, client: InferenceClient) -> InferenceStream:
        terms = StreamTerms(wait_s=0.0 if self._served else _FIRST_WAIT_S, moves=False)
        timeout_s = _NEXT_TIMEOUT_S if self._served else _FIRST_TIMEOUT_S
        context = opened(self._engine, {}, timeout_s, terms=terms, client=client)
        stream = await stack.enter_async_context(context)
        self.remote = True
        if not self._served:
            # 4 MB, once in the process: it is there when the replica is not.
            runtime.prewarm(FALLBACK, here=True)
        self._served = True
        return stream

    async def _here(self, stack: AsyncExitStack, engine: str) -> InferenceStream:
        self.remote = False
        context = opened(engine, {}, _OPEN_TIMEOUT_S, client=runtime.local())
        return await stack.enter_async_context(context)

    def _look_for_replica(self, client: InferenceClient) -> None:
        if self._search is None or self._search.done():
            self._search = self._tasks.spawn("return", self._return(client))

    async def _return(self, client: InferenceClient) -> None:
        attempt = 0
        while True:
            attempt += 1
            await asyncio.sleep(_RETURN.delay_s(attempt, self._rng))
            stack = AsyncExitStack()
            terms = StreamTerms(moves=False)
            context = opened(self._engine, {}, _OPEN_TIMEOUT_S, terms=terms, client=client)
            try:
                stream = await stack.enter_async_context(context)
            except VoxrayError:
                continue
            self._returned = (stack, stream)
            return
