"""The fleet gateway over Ray: every Ray call of the dispatcher is made here.

Calls stay short: a method that is pending keeps an actor from ending cleanly. Calls that block in
Ray's client (creating, looking up) run on a thread with a deadline, because they hang for as long
as the cluster's control store is away.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import ray
from ray.exceptions import (
    ActorDiedError,
)

from voxray.actors.contracts import (
    Endpoint,
    JobOrder,
    ProgramInfo,
    ReplicaEndpoint,
    Report,
    RequestAnswer,
)
from voxray.actors.control import watch
from voxray.actors.inference_actor import InferenceActor
from voxray.actors.session_actor import SessionActor
from voxray.base.errors import (
    ActorStartError,
    VoxrayError,
)
from voxray.base.ids import (
    HostId,
    JobId,
    ReplicaId,
    dispatcher_actor_name,
    host_actor_name,
    host_of_actor_name,
    replica_actor_name,
    replica_of_actor_name,
)
from voxray.base.sealed import Sealed
from voxray.base.settings import ReplicaGroupSettings, Settings
from voxray.base.tls import load_certificates
from voxray.dispatcher.fleet import DispatcherEndedError, Found
from voxray.dispatcher.ray_errors import UnavailableError, within
from voxray.dispatcher.request_batches import RequestBatches
from voxray.dispatcher.role import Role

T = TypeVar("T")
# Ray's types of a handle differ with how the class was decorated; its methods are untyped anyway.
_Actor: TypeAlias = Any
logger = logging.getLogger(__name__)

# Threads for the short methods of an actor; a blocked one must not hold up the next.
_ACTOR_THREADS = 16
# Calls that block in Ray's client at the same time; each ends at the latest when Ray gives up.
_CLIENT_THREADS = 32
_LOOKUP_DEADLINE_S = 10.0
_CALL_DEADLINE_S = 5.0
# A look at a replica that may still load its engines.
_GLANCE_S = 1.0
# The program's request_fnc gets 2 s on its host; LiveKit drops the offer after 3 s.
_REQUEST_DEADLINE_S = 2.5
_UNAVAILABLE_PAUSE_S = 0.05
_REPLICA_START_DEADLINE_S = 120.0


@dataclass(frozen=True, kw_only=True)
class FleetContext:
    """What every actor of the app is made with.

    Attributes:
        settings: the whole settings of the app.
        environment: variables that the program's processes get.
        token: shared secret of the app's own gRPC ports.
        role: which of the app's dispatchers asks.
    """

    settings: Settings
    environment: Sealed[dict[str, str]]
    token: Sealed[str]
    role: Role


class RayFleet:
    """Implements `fleet.FleetGateway` with named, detached Ray actors."""

    def __init__(self, context: FleetContext) -> None:
        self._context = context
        self._certificates = load_certificates(context.settings.inference.tls)
        self._handles: dict[str, _Actor] = {}
        # Not the loop's own threads: with the cluster's control store away, blocked calls would
        # take them all, and the names of LiveKit's server could not be resolved any more.
        self._requests = RequestBatches(
            lambda host_id, asked: self._question(host_id, "requests", list(asked)),
            lambda host_id, ticket: self._question(host_id, "late_request", ticket),
        )
        self._threads = ThreadPoolExecutor(_CLIENT_THREADS, thread_name_prefix="ray-client")

    async def find(self) -> Found:
        """Return this dispatcher's hosts that it left running before, and the app's replicas.

        What does not answer, or was made with other settings, is ended; the calls of such a host
        end as they do when it is closed.
        """
        context, names = self._context, await self._names()
        hosts = {
            host_id: name
            for name in names
            if (host_id := host_of_actor_name(name)) is not None and context.role.owns(host_id)
        }
        fit = (context.settings, context.environment)
        found = {host_id: await self._adopt(name, *fit) for host_id, name in hosts.items()}
        leads = context.role.leads
        return Found(
            hosts={host_id: where for host_id, where in found.items() if where is not None},
            replicas=await (self._own_replicas(names) if leads else self.find_replicas()),
        )

    async def find_replicas(self) -> dict[ReplicaId, Endpoint]:
        """Return the app's replicas that are alive."""
        found = {}
        for name in await self._names():
            if (replica_id := replica_of_actor_name(name)) is None:
                continue
            # One that does not answer is starting or ending; its owner sees to it.
            with contextlib.suppress(VoxrayError):
                found[replica_id] = await self._call(name, "endpoint", timeout_s=_GLANCE_S)
        return found

    async def ask_dispatcher(self, index: int, question: str, argument: object) -> Any:
        """Put a question to another dispatcher of the app."""
        name = dispatcher_actor_name(index)
        if name not in self._handles:
            self._handles[name] = await self._blocking(lambda: _named(name), f"look up {name}")
        try:
            return await self._call(name, "answer", question, argument, timeout_s=_CALL_DEADLINE_S)
        except VoxrayError as error:
            # The next look-up tells whether it is gone for good.
            self._handles.pop(name, None)
            if isinstance(error.__cause__, ActorDiedError):
                raise DispatcherEndedError(f"dispatcher {index} has ended") from error
            raise

    async def _names(self) -> list[str]:
        return await self._blocking(ray.util.list_named_actors, "list the app's actors")

    async def _own_replicas(self, names: list[str]) -> dict[ReplicaId, Endpoint]:
        found = {
            replica_id: await self._adopt(name, self._context.settings)
            for name in names
            if (replica_id := replica_of_actor_name(name)) is not None
        }
        return {replica_id: where for replica_id, where in found.items() if where is not None}

    async def _adopt(self, name: str, *made_with: object) -> Endpoint | None:
        """Return where an actor is that was left running; end it if it is of no use."""
        try:
            endpoint = await self._call(name, "endpoint", timeout_s=_CALL_DEADLINE_S)
            fits = await self._call(name, "fits", *made_with, timeout_s=_CALL_DEADLINE_S)
        except VoxrayError as error:
            logger.warning(
                "found an actor that does not answer", extra={"actor": name, "error": str(error)}
            )
            await self._kill(name)
            return None
        if not fits:
            logger.warning(
                "found an actor of an earlier start with other settings; it is ended",
                extra={"actor": name},
            )
            await self._stop(name, force=False)
            return None
        return Endpoint.model_validate(endpoint)

    async def start_host(self, host_id: HostId, program: ProgramInfo) -> Endpoint:
        """Start a session host with a program and wait until it takes jobs."""
        context, name = self._context, host_actor_name(host_id)
        hosts = context.settings.hosts
        options = self._options(name, num_cpus=hosts.cpus, num_gpus=0)

        def create() -> _Actor:
            return (
                ray.remote(SessionActor)
                .options(**options)
                .remote(
                    host_id,
                    program.path,
                    program.version,
                    context.settings,
                    context.environment,
                    context.token,
                )
            )

        # The host bounds both steps itself, and knows then where the program was.
        limit_s = hosts.start_timeout_s + program.initialize_timeout_s
        return await self._start(name, create, timeout_s=limit_s)

    async def stop_host(self, host_id: HostId, *, force: bool = False) -> None:
        """End a host: its jobs' shutdown runs first, unless `force`. Never raises."""
        await self._stop(host_actor_name(host_id), force=force)

    async def request(self, host_id: HostId, job: bytes) -> RequestAnswer:
        """Run the program's `request_fnc` for a serialised job."""
        return await self._requests.request(host_id, job)

    async def start_job(self, host_id: HostId, order: JobOrder) -> None:
        """Start one generation of a job."""
        await self._call(host_actor_name(host_id), "start_job", order, timeout_s=_CALL_DEADLINE_S)

    async def stop_job(self, host_id: HostId, job_id: JobId, generation: int, reason: str) -> None:
        """Ask a host to end a job; its end is reported on the watch stream."""
        name = host_actor_name(host_id)
        await self._call(name, "stop_job", job_id, generation, reason, timeout_s=_CALL_DEADLINE_S)

    async def set_replicas(self, host_id: HostId, replicas: tuple[ReplicaEndpoint, ...]) -> None:
        """Tell a host where inference is."""
        name = host_actor_name(host_id)
        await self._call(name, "set_replicas", replicas, timeout_s=_CALL_DEADLINE_S)

    async def start_replica(self, replica_id: ReplicaId, group: ReplicaGroupSettings) -> Endpoint:
        """Start an inference replica and wait until its engines are loaded."""
        context, name = self._context, replica_actor_name(replica_id)
        options = self._options(name, num_cpus=group.cpus, num_gpus=group.gpus)

        def create() -> _Actor:
            return (
                ray.remote(InferenceActor)
                .options(**options)
                .remote(replica_id, group, context.settings, context.environment, context.token)
            )

        return await self._start(name, create, timeout_s=_REPLICA_START_DEADLINE_S)

    async def stop_replica(self, replica_id: ReplicaId) -> None:
        """End a replica. Never raises."""
        await self._stop(replica_actor_name(replica_id), force=False)

    def watch(self, endpoint: Endpoint) -> AsyncIterator[Report]:
        """Yield an actor's reports until its process or the connection dies, then raise."""
        return watch(endpoint.address, self._context.token.open(), self._certificates)

    async def aclose(self) -> None:
        """Let go of the handles; actors go on."""
        await self._requests.aclose()
        self._handles.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _question(self, host_id: HostId, method: str, argument: object) -> Any:
        name = host_actor_name(host_id)
        return await self._call(name, method, argument, timeout_s=_REQUEST_DEADLINE_S)

    def _options(self, name: str, *, num_cpus: float, num_gpus: float) -> dict[str, Any]:
        return {
            "name": name,
            "namespace": self._context.settings.app,
            "lifetime": "detached",
            # A host with calls is never restarted in place: its jobs resume on another one.
            "max_restarts": 0,
            "max_concurrency": _ACTOR_THREADS,
            "num_cpus": num_cpus,
            "num_gpus": num_gpus,
        }

    async def _start(
        self, name: str, create: Callable[[], _Actor], *, timeout_s: float
    ) -> Endpoint:
        try:
            self._handles[name] = await self._blocking(create, f"create {name}")
            endpoint = await self._endpoint_of_new(name, timeout_s)
        except VoxrayError as error:
            await self._kill(name)
            # Who asked knows the name; without it, the same failure reads the same.
            failed = ActorStartError(str(error))
            failed.details = error.details
            raise failed from error
        return Endpoint.model_validate(endpoint)

    async def _endpoint_of_new(self, name: str, timeout_s: float) -> Any:
        """Return an actor's endpoint, or raise why its constructor failed.

        In the moment of its death Ray only says that an actor is unavailable; asked again, it
        knows the constructor's error.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        while True:
            try:
                return await self._call(name, "endpoint", timeout_s=until - loop.time())
            except UnavailableError:
                if loop.time() + _UNAVAILABLE_PAUSE_S >= until:
                    raise
                await asyncio.sleep(_UNAVAILABLE_PAUSE_S)

    async def _stop(self, name: str, *, force: bool) -> None:
        if not force:
            try:
                await self._call(
                    name, "close", timeout_s=self._context.settings.hosts.start_timeout_s
                )
            except VoxrayError as error:
                logger.info(
                    "an actor was gone before it was closed",
                    extra={"actor": name, "error": str(error)},
                )
        await self._kill(name)

    async def _kill(self, name: str) -> None:
        try:
            handle = await self._handle(name)
            await self._blocking(lambda: ray.kill(handle), f"kill {name}")
        except VoxrayError as error:
            logger.debug("nothing left to kill", extra={"actor": name, "error": str(error)})
        finally:
            self._handles.pop(name, None)

    async def _handle(self, name: str) -> _Actor:
        if name not in self._handles:
            self._handles[name] = await self._blocking(
                lambda: ray.get_actor(name), f"look up {name}"
            )
        return self._handles[name]

    async def _call(self, name: str, method: str, *arguments: Any, timeout_s: float) -> Any:
        handle = await self._handle(name)
        return await within(
            getattr(handle, method).remote(*arguments), f"call {method} on {name}", timeout_s
        )

    async def _blocking(self, function: Callable[[], T], what: str) -> T:
        call = asyncio.get_running_loop().run_in_executor(self._threads, function)
        return await within(call, what, _LOOKUP_DEADLINE_S)


def _named(name: str) -> _Actor:
    """Return the handle of a dispatcher.

    Raises:
        DispatcherEndedError: there is none of that name.
    """
    try:
        return ray.get_actor(name)
    except ValueError as error:
        raise DispatcherEndedError(f"the app has no {name}") from error
