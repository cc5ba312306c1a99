"""The fleet gateway over Ray: what the dispatcher asks of hosts, replicas and its peers."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import ray
from ray.exceptions import ActorDiedError

from voxray.actors.contracts import (
    Endpoint,
    JobOrder,
    ProgramInfo,
    ReplicaEndpoint,
    Report,
    RequestAnswer,
)
from voxray.actors.control import watch
from voxray.actors.session_actor import SessionActor
from voxray.base.errors import VoxrayError
from voxray.base.ids import (
    HostId,
    JobId,
    ReplicaId,
    dispatcher_actor_name,
    host_actor_name,
    host_of_actor_name,
    replica_actor_name,
)
from voxray.base.settings import ReplicaGroupSettings
from voxray.base.tls import load_certificates
from voxray.dispatcher.fleet import DispatcherEndedError, Found
from voxray.dispatcher.ray_actors import Actor, RayActors
from voxray.dispatcher.ray_context import FleetContext
from voxray.dispatcher.ray_replicas import RayReplicas
from voxray.dispatcher.request_batches import RequestBatches

_CALL_DEADLINE_S = 5.0
# The program's request_fnc gets 2 s on its host; LiveKit drops the offer after 3 s.
_REQUEST_DEADLINE_S = 2.5
# A replica's engines stop between two pieces of work.
_REPLICA_CLOSE_S = 12.0


class RayFleet:
    """Implements `fleet.FleetGateway` with named, detached Ray actors."""

    def __init__(self, context: FleetContext) -> None:
        self._context = context
        self._certificates = load_certificates(context.settings.inference.tls)
        self._actors = RayActors(context.settings.app)
        self._replicas = RayReplicas(context, self._actors)
        self._requests = RequestBatches(
            lambda host_id, asked: self._question(host_id, "requests", list(asked)),
            lambda host_id, ticket: self._question(host_id, "late_request", ticket),
        )

    async def find(self) -> Found:
        """Return this dispatcher's hosts that it left running before, and the app's replicas.

        What does not answer, or was made with other settings, is ended; the calls of such a host
        end as they do when it is closed.
        """
        context, names = self._context, await self._actors.names()
        hosts = {
            host_id: name
            for name in names
            if (host_id := host_of_actor_name(name)) is not None and context.role.owns(host_id)
        }
        fit = (context.settings, context.environment)
        found = {host_id: await self._actors.adopt(name, *fit) for host_id, name in hosts.items()}
        leads = context.role.leads
        return Found(
            hosts={host_id: where for host_id, where in found.items() if where is not None},
            replicas=await (self._replicas.adopt(names) if leads else self._replicas.find()),
        )

    async def find_replicas(self) -> dict[ReplicaId, Endpoint]:
        """Return the app's replicas that are alive."""
        return await self._replicas.find()

    async def ask_dispatcher(self, index: int, question: str, argument: object) -> Any:
        """Put a question to another dispatcher of the app."""
        name = dispatcher_actor_name(index)
        try:
            return await self._actors.call(
                name, "answer", question, argument, timeout_s=_CALL_DEADLINE_S
            )
        except VoxrayError as error:
            # The next look-up tells whether it is gone for good.
            self._actors.forget(name)
            if isinstance(error.__cause__, (ActorDiedError, ValueError)):
                raise DispatcherEndedError(f"dispatcher {index} has ended") from error
            raise

    async def start_host(self, host_id: HostId, program: ProgramInfo) -> Endpoint:
        """Start a session host with a program and wait until it takes jobs."""
        context, hosts = self._context, self._context.settings.hosts
        name = host_actor_name(host_id)
        options = self._actors.options(name, num_cpus=hosts.cpus, num_gpus=0)

        def create() -> Actor:
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
        return await self._actors.start(name, create, timeout_s=limit_s)

    async def stop_host(self, host_id: HostId, *, force: bool = False) -> None:
        """End a host: its jobs' shutdown runs first, unless `force`. Never raises."""
        close_s = self._context.settings.hosts.start_timeout_s
        await self._actors.stop(host_actor_name(host_id), force=force, close_s=close_s)

    async def request(self, host_id: HostId, job: bytes) -> RequestAnswer:
        """Run the program's `request_fnc` for a serialised job."""
        return await self._requests.request(host_id, job)

    async def start_job(self, host_id: HostId, order: JobOrder) -> None:
        """Start one generation of a job."""
        await self._actors.call(
            host_actor_name(host_id), "start_job", order, timeout_s=_CALL_DEADLINE_S
        )

    async def stop_job(self, host_id: HostId, job_id: JobId, generation: int, reason: str) -> None:
        """Ask a host to end a job; its end is reported on the watch stream."""
        name = host_actor_name(host_id)
        await self._actors.call(
            name, "stop_job", job_id, generation, reason, timeout_s=_CALL_DEADLINE_S
        )

    async def set_replicas(self, host_id: HostId, replicas: tuple[ReplicaEndpoint, ...]) -> None:
        """Tell a host where inference is."""
        name = host_actor_name(host_id)
        await self._actors.call(name, "set_replicas", replicas, timeout_s=_CALL_DEADLINE_S)

    async def start_replica(
        self,
        replica_id: ReplicaId,
        group: ReplicaGroupSettings,
        on_waiting: Callable[[str], None],
    ) -> Endpoint:
        """Start an inference replica and wait until its engines are loaded."""
        return await self._replicas.start(replica_id, group, on_waiting)

    async def drain_replica(self, replica_id: ReplicaId) -> None:
        """Have a replica take no more streams."""
        name = replica_actor_name(replica_id)
        await self._actors.call(name, "drain", timeout_s=_CALL_DEADLINE_S)

    async def stop_replica(self, replica_id: ReplicaId, *, force: bool = False) -> None:
        """End a replica. Never raises."""
        name = replica_actor_name(replica_id)
        await self._actors.stop(name, force=force, close_s=_REPLICA_CLOSE_S)

    def watch(self, endpoint: Endpoint) -> AsyncIterator[Report]:
        """Yield an actor's reports until its process or the connection dies, then raise."""
        return watch(endpoint.address, self._context.token.open(), self._certificates)

    async def aclose(self) -> None:
        """Let go of the handles; actors go on."""
        await self._requests.aclose()
        self._actors.close()

    async def _question(self, host_id: HostId, method: str, argument: object) -> Any:
        name = host_actor_name(host_id)
        return await self._actors.call(name, method, argument, timeout_s=_REQUEST_DEADLINE_S)
