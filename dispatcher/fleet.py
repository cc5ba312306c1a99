"""What the dispatcher needs of a cluster: the gateway protocol that Ray implements."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from voxray.actors.contracts import (
    Endpoint,
    JobOrder,
    ProgramInfo,
    ReplicaEndpoint,
    Report,
    RequestAnswer,
)
from voxray.base.errors import ConnectionFailedError
from voxray.base.ids import HostId, JobId, ReplicaId
from voxray.base.settings import ReplicaGroupSettings


class DispatcherEndedError(ConnectionFailedError):
    """The app has no such dispatcher: it has ended, and nothing brings it back."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """Actors of this app that are alive, found by their names."""

    hosts: dict[HostId, Endpoint]
    replicas: dict[ReplicaId, Endpoint]


class FleetGateway(Protocol):
    """Starts, finds, orders and watches the app's actors. Every method has a deadline."""

    async def find(self) -> Found:
        """Return this dispatcher's hosts that it left running before, and the app's replicas."""
        ...

    async def find_replicas(self) -> dict[ReplicaId, Endpoint]:
        """Return the app's replicas that are alive."""
        ...

    async def ask_dispatcher(self, index: int, question: str, argument: object) -> Any:
        """Put a question (`peers.Question`) to another dispatcher of the app.

        Raises:
            DispatcherEndedError: there is no such dispatcher.
            VoxrayError: it does not answer.
        """
        ...

    async def start_host(self, host_id: HostId, program: ProgramInfo) -> Endpoint:
        """Start a session host with a program and wait until it takes jobs.

        Raises:
            ActorStartError: it did not start; the message carries the reason.
        """
        ...

    async def stop_host(self, host_id: HostId, *, force: bool = False) -> None:
        """End a host: its jobs' shutdown runs first, unless `force`. Never raises."""
        ...

    async def request(self, host_id: HostId, job: bytes) -> RequestAnswer:
        """Run the program's `request_fnc` for a serialised job."""
        ...

    async def start_job(self, host_id: HostId, order: JobOrder) -> None:
        """Start one generation of a job.

        Raises:
            VoxrayError: the host is gone or refused.
        """
        ...

    async def stop_job(self, host_id: HostId, job_id: JobId, generation: int, reason: str) -> None:
        """Ask a host to end a job; its end is reported on the watch stream."""
        ...

    async def set_replicas(self, host_id: HostId, replicas: tuple[ReplicaEndpoint, ...]) -> None:
        """Tell a host where inference is."""
        ...

    async def start_replica(
        self,
        replica_id: ReplicaId,
        group: ReplicaGroupSettings,
        on_waiting: Callable[[str], None],
    ) -> Endpoint:
        """Start an inference replica and wait until its engines are loaded.

        As long as no node has what it needs it waits, and `on_waiting` is told what that is.

        Raises:
            ActorStartError: it did not start; the message carries the reason.
        """
        ...

    async def drain_replica(self, replica_id: ReplicaId) -> None:
        """Have a replica take no more streams.

        Raises:
            VoxrayError: it is gone.
        """
        ...

    async def stop_replica(self, replica_id: ReplicaId, *, force: bool = False) -> None:
        """End a replica, at once with `force`. Never raises."""
        ...

    def watch(self, endpoint: Endpoint) -> AsyncIterator[Report]:
        """Yield an actor's reports until its process or the connection dies, then raise.

        Raises:
            ConnectionFailedError: the stream broke.
        """
        ...

    async def aclose(self) -> None:
        """Let go of connections; actors go on."""
        ...
