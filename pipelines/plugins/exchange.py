"""Both directions of one inference stream, as a plugin drives them."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from voxray.base.errors import DeadlineError, StreamEndedError, StreamFinishedError
from voxray.base.lifecycle import TaskOwner
from voxray.observability.tracing import traceparent_of
from voxray.pipelines import runtime
from voxray.pipelines.engines.base import EngineOutput
from voxray.pipelines.streams import LIVE, InferenceClient, InferenceStream, StreamTerms


@asynccontextmanager
async def opened(
    engine: str,
    options: Mapping[str, Any],
    timeout_s: float,
    *,
    terms: StreamTerms = LIVE,
    client: InferenceClient | None = None,
) -> AsyncIterator[InferenceStream]:
    """Open a stream in the trace of the caller, and close it at the end.

    Args:
        engine: the engine's name or kind.
        options: the engine's options.
        timeout_s: seconds until it has to be open.
        terms: what the stream wants of the client.
        client: who opens it; None takes the one of this process.

    Raises:
        EngineConfigError: no such engine, or it can't do what the options ask.
        CapacityError: every replica is at its limit.
        DeadlineError: no answer within `timeout_s`.
    """
    try:
        async with asyncio.timeout(timeout_s):
            stream = await (client or runtime.current()).open(
                engine, options, traceparent=traceparent_of(), terms=terms
            )
    except TimeoutError:
        # Without its cause: livekit-agents prints the first one of the chain, a cancellation.
        raise DeadlineError(f"engine {engine} opened no stream within {timeout_s:g} s") from None
    try:
        yield stream
    finally:
        await stream.aclose()


async def outputs(stream: InferenceStream) -> AsyncIterator[EngineOutput]:
    """Yield results until everything was said.

    Raises:
        StreamEndedError: the stream was closed or lost before.
        EngineError: the engine failed on this stream.
    """
    with suppress(StreamFinishedError):
        while True:
            yield await stream.receive()


async def exchange(
    name: str, feeding: Coroutine[Any, Any, None], listening: Coroutine[Any, Any, None]
) -> None:
    """Run both directions until the listening one is done; nothing of either is left running.

    That the stream has ended is for the listening side to tell, which knows the reason.
    """
    tasks = TaskOwner(name, on_failure=_raised_below)
    feeder = tasks.spawn("input", feeding)
    listener = tasks.spawn("output", listening)
    try:
        await asyncio.wait((feeder, listener), return_when=asyncio.FIRST_COMPLETED)
        if feeder.done() and not listener.done():
            with suppress(StreamEndedError):
                feeder.result()
        await listener
    finally:
        await tasks.aclose()


def _raised_below(_name: str, _error: BaseException) -> None:
    """Both tasks are awaited: their errors are raised, not logged here."""
