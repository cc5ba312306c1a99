"""Ray shell of a session host.

A sync actor: its constructor runs on the process's main thread, where plugins register, and its
methods on threads of their own, so that they answer while a job blocks the event loop.
"""

from pathlib import Path

import ray
from ray.util import get_node_ip_address

from voxray.actors.contracts import Endpoint, JobOrder, ReplicaEndpoint, RequestAnswer
from voxray.actors.host_process import HostConfig, HostProcess
from voxray.actors.place import Place
from voxray.base.errors import VoxrayError
from voxray.base.ids import HostId, JobId
from voxray.base.sealed import Sealed
from voxray.base.settings import Settings


class SessionActor:
    """One session host. Every method is short, except `close`."""

    def __init__(
        self,
        host_id: HostId,
        program_path: str,
        version: str,
        settings: Settings,
        environment: Sealed[dict[str, str]],
        token: Sealed[str],
    ) -> None:
        self._made_with = (settings.for_actors(), environment)
        node = ray.get_runtime_context().get_node_id()
        config = HostConfig(
            host_id=host_id,
            program_path=Path(program_path),
            version=version,
            settings=settings,
            environment=environment.open(),
            place=Place(address=_address(), node=node),
            token=token.open(),
        )
        self._failure: VoxrayError | None = None
        try:
            self._process = HostProcess(config)
        except VoxrayError as error:
            # Raised here, Ray would make a text of it; `endpoint` hands it over as it is.
            self._failure = error

    def endpoint(self) -> Endpoint:
        """Return where the host is reached; the first call waits for its start.

        Raises:
            VoxrayError: why it could not start; nothing can be done with it then.
        """
        if self._failure is not None:
            raise self._failure
        return self._process.endpoint

    def fits(self, settings: Settings, environment: Sealed[dict[str, str]]) -> bool:
        """Return whether a host made with these would be the same."""
        return self._made_with == (settings.for_actors(), environment)

    def requests(self, asked: list[tuple[str, bytes]]) -> list[RequestAnswer | None]:
        """Run the program's `request_fnc` for (ticket, serialised job) pairs; None: not yet."""
        return self._process.requests(asked)

    def late_request(self, ticket: str) -> RequestAnswer:
        """Return the answer to a ticket that was not there yet."""
        return self._process.late_request(ticket)

    def start_job(self, order: JobOrder) -> None:
        """Start one generation of a job.

        Raises:
            CapacityError: the host is full, draining or closed.
            DeadlineError: a program blocks the jobs' loop.
        """
        self._process.start_job(order)

    def stop_job(self, job_id: JobId, generation: int, reason: str) -> None:
        """Ask a job to end; its end is reported on the control stream."""
        self._process.stop_job(job_id, generation, reason)

    def set_replicas(self, replicas: tuple[ReplicaEndpoint, ...]) -> None:
        """Tell the host where inference is."""
        self._process.set_replicas(replicas)

    def drain(self, deadline_s: float) -> None:
        """Take no more jobs."""
        self._process.drain(deadline_s)

    def close(self) -> None:
        """End all jobs with their shutdown callbacks, then the host. Idempotent."""
        self._process.close()


def _address() -> str:
    return str(get_node_ip_address())  # type: ignore[no-untyped-call]  # ray.util is untyped
