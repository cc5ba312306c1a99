"""Named, detached Ray actors of one app: created, called, adopted and ended.

Calls stay short: a method that is pending keeps an actor from ending cleanly. Calls that block in
Ray's client (creating, looking up) run on a thread with a deadline, because they hang for as long
as the cluster's control store is away.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, TypeAlias, TypeVar

import ray

from voxray.actors.contracts import Endpoint
from voxray.base.errors import ActorStartError, VoxrayError
from voxray.dispatcher.ray_errors import UnavailableError, within

T = TypeVar("T")
# Ray's types of a handle differ with how the class was decorated; its methods are untyped anyway.
Actor: TypeAlias = Any
logger = logging.getLogger(__name__)

# Threads for the short methods of an actor; a blocked one must not hold up the next.
_ACTOR_THREADS = 16
# Calls that block in Ray's client at the same time; each ends at the latest when Ray gives up.
_CLIENT_THREADS = 32
_LOOKUP_DEADLINE_S = 10.0
_CALL_DEADLINE_S = 5.0
_UNAVAILABLE_PAUSE_S = 0.05
# A host of an earlier start ends its calls in it.
_CLOSE_S = 60.0


class RayActors:
    """The actors of one Ray namespace. Belongs to one event loop."""

    def __init__(self, namespace: str) -> None:
        """Prepare; `namespace` is the app's name."""
        self._namespace = namespace
        self._handles: dict[str, Actor] = {}
        # Not the loop's own threads: with the cluster's control store away, blocked calls would
        # take them all, and the names of LiveKit's server could not be resolved any more.
        self._threads = ThreadPoolExecutor(_CLIENT_THREADS, thread_name_prefix="ray-client")

    def close(self) -> None:
        """Let go of the handles; actors go on."""
        self._handles.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def forget(self, name: str) -> None:
        """Look an actor up anew when it is called next."""
        self._handles.pop(name, None)

    async def names(self) -> list[str]:
        """Return the names of all actors of the app that are alive."""
        return await self.blocking(ray.util.list_named_actors, "list the app's actors")

    async def adopt(self, name: str, *made_with: object) -> Endpoint | None:
        """Return where an actor is that was left running; end it if it is of no use."""
        try:
            endpoint = await self.call(name, "endpoint", timeout_s=_CALL_DEADLINE_S)
            fits = await self.call(name, "fits", *made_with, timeout_s=_CALL_DEADLINE_S)
        except VoxrayError as error:
            logger.warning(
                "found an actor that does not answer", extra={"actor": name, "error": str(error)}
            )
            await self.kill(name)
            return None
        if not fits:
            logger.warning(
                "found an actor of an earlier start with other settings; it is ended",
                extra={"actor": name},
            )
            await self.stop(name, force=False, close_s=_CLOSE_S)
            return None
        return Endpoint.model_validate(endpoint)

    def options(
        self, name: str, *, num_cpus: float, num_gpus: float = 0, **needs: object
    ) -> dict[str, Any]:
        """Return what Ray is asked for: shares of CPU and GPU, and further needs by Ray's names."""
        return {
            "name": name,
            "namespace": self._namespace,
            "lifetime": "detached",
            # A host with calls is never restarted in place: its jobs resume on another one.
            "max_restarts": 0,
            "max_concurrency": _ACTOR_THREADS,
            "num_cpus": num_cpus,
            "num_gpus": num_gpus,
            **needs,
        }

    async def start(self, name: str, create: Callable[[], Actor], *, timeout_s: float) -> Endpoint:
        """Create an actor and wait until it serves; what does not start is ended.

        Raises:
            ActorStartError: it did not start in time, or says why it can't.
        """
        async with self.starting(name, create):
            return Endpoint.model_validate(
                await self.first_answer(name, "endpoint", timeout_s=timeout_s)
            )

    @asynccontextmanager
    async def starting(self, name: str, create: Callable[[], Actor]) -> AsyncIterator[None]:
        """Create an actor, and end it if what is done with it in the context fails.

        Raises:
            ActorStartError: what failed.
        """
        try:
            self._handles[name] = await self.blocking(create, f"create {name}")
            yield
        except VoxrayError as error:
            await self.kill(name)
            # Who asked knows the name; without it, the same failure reads the same.
            failed = ActorStartError(str(error))
            failed.details = error.details
            raise failed from error

    async def first_answer(self, name: str, method: str, *, timeout_s: float) -> Any:
        """Return what a new actor answers, or raise why its constructor failed.

        In the moment of its death Ray only says that an actor is unavailable; asked again, it
        knows the constructor's error.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        while True:
            try:
                return await self.call(name, method, timeout_s=until - loop.time())
            except UnavailableError:
                if loop.time() + _UNAVAILABLE_PAUSE_S >= until:
                    raise
                await asyncio.sleep(_UNAVAILABLE_PAUSE_S)

    async def stop(self, name: str, *, force: bool, close_s: float) -> None:
        """End an actor; unless `force`, it is asked to close first. Never raises."""
        if not force:
            try:
                await self.call(name, "close", timeout_s=close_s)
            except VoxrayError as error:
                logger.info(
                    "an actor was gone before it was closed",
                    extra={"actor": name, "error": str(error)},
                )
        await self.kill(name)

    async def kill(self, name: str) -> None:
        """End an actor's process at once. Never raises."""
        try:
            handle = await self.handle(name)
            await self.blocking(lambda: ray.kill(handle), f"kill {name}")
        except VoxrayError as error:
            logger.debug("nothing left to kill", extra={"actor": name, "error": str(error)})
        finally:
            self._handles.pop(name, None)

    async def handle(self, name: str) -> Actor:
        """Return the handle of an actor.

        Raises:
            ConnectionFailedError: there is none of that name.
        """
        if name not in self._handles:
            self._handles[name] = await self.blocking(
                lambda: ray.get_actor(name), f"look up {name}"
            )
        return self._handles[name]

    async def call(self, name: str, method: str, *arguments: Any, timeout_s: float) -> Any:
        """Call a method; errors as in `ray_errors.within`."""
        handle = await self.handle(name)
        return await within(
            getattr(handle, method).remote(*arguments), f"call {method} on {name}", timeout_s
        )

    async def blocking(self, function: Callable[[], T], what: str) -> T:
        """Run what blocks in Ray's client on a thread; errors as in `ray_errors.within`."""
        call = asyncio.get_running_loop().run_in_executor(self._threads, function)
        return await within(call, what, _LOOKUP_DEADLINE_S)
