"""Ray shell of an inference replica: takes the device that Ray gave it."""

import os

import ray
from ray.util import get_node_ip_address

from voxray.actors.contracts import Endpoint
from voxray.actors.devices import device_of
from voxray.actors.inference_host import InferenceHost, ReplicaConfig
from voxray.actors.place import Place
from voxray.base.errors import ConnectionFailedError
from voxray.base.ids import ReplicaId
from voxray.base.priority import come_back
from voxray.base.sealed import Sealed
from voxray.base.settings import ReplicaGroupSettings, Settings


class InferenceActor:
    """One inference replica: placed at once, serving after `load`."""

    def __init__(
        self,
        replica_id: ReplicaId,
        group: ReplicaGroupSettings,
        settings: Settings,
        environment: Sealed[dict[str, str]],
        token: Sealed[str],
    ) -> None:
        """Check the device.

        Raises:
            EngineConfigError: it is not the one that Ray assigned.
        """
        self._made_with = (settings.telemetry, settings.inference.tls, group)
        context = ray.get_runtime_context()
        gpu_ids = [str(each) for each in context.get_accelerator_ids().get("GPU", [])]
        self._device = device_of(group.name, group.gpus, gpu_ids, os.environ)
        self._config = ReplicaConfig(
            replica_id=replica_id,
            group=group,
            settings=settings,
            environment=environment.open(),
            place=Place(address=_address(), node=context.get_node_id()),
            device=self._device,
            token=token.open(),
        )
        self._host: InferenceHost | None = None

    def device(self) -> str:
        """Return the device; the first answer tells that the replica has found its place."""
        return self._device

    def load(self) -> Endpoint:
        """Load the engines and serve them; return where.

        Raises:
            EngineConfigError: a model can't be loaded.
        """
        if self._host is None:
            self._host = InferenceHost(self._config)
            come_back()
        return self._host.endpoint

    def endpoint(self) -> Endpoint:
        """Return where the replica is reached.

        Raises:
            ConnectionFailedError: it has not loaded its engines yet.
        """
        return self._serving().endpoint

    def drain(self) -> None:
        """Take no more streams; those that are open go on. Idempotent."""
        self._serving().drain()

    def fits(self, settings: Settings) -> bool:
        """Return whether a replica of the group of our name would be the same."""
        telemetry, tls, group = self._made_with
        inference = settings.inference
        same = telemetry == settings.telemetry and tls == inference.tls
        return same and group in inference.groups

    def close(self) -> None:
        """End all streams and free the engines. Idempotent."""
        if self._host is not None:
            self._host.close()

    def _serving(self) -> InferenceHost:
        if self._host is None:
            raise ConnectionFailedError(f"replica {self._config.replica_id} is loading its engines")
        return self._host


def _address() -> str:
    return str(get_node_ip_address())  # type: ignore[no-untyped-call]  # ray.util is untyped
