"""Ray shell of an inference replica: takes the device that Ray gave it."""

from pathlib import Path

import ray
from ray.util import get_node_ip_address

from voxray.actors.contracts import Endpoint
from voxray.actors.inference_host import InferenceHost, ReplicaConfig
from voxray.actors.place import Place
from voxray.base.ids import ReplicaId
from voxray.base.priority import come_back
from voxray.base.sealed import Sealed
from voxray.base.settings import ReplicaGroupSettings, Settings

# There on a machine with an NVIDIA driver.
_NVIDIA = Path("/proc/driver/nvidia/version")


class InferenceActor:
    """One inference replica."""

    def __init__(
        self,
        replica_id: ReplicaId,
        group: ReplicaGroupSettings,
        settings: Settings,
        environment: Sealed[dict[str, str]],
        token: Sealed[str],
    ) -> None:
        self._made_with = (settings.telemetry, settings.inference.tls, group)
        context = ray.get_runtime_context()
        self._host = InferenceHost(
            ReplicaConfig(
                replica_id=replica_id,
                group=group,
                settings=settings,
                environment=environment.open(),
                place=Place(address=_address(), node=context.get_node_id()),
                device=_device(context.get_accelerator_ids().get("GPU", [])),
                token=token.open(),
            )
        )
        come_back()

    def endpoint(self) -> Endpoint:
        """Return where the replica is reached; the first call waits for its start."""
        return self._host.endpoint

    def fits(self, settings: Settings) -> bool:
        """Return whether a replica of the group of our name would be the same."""
        telemetry, tls, group = self._made_with
        inference = settings.inference
        same = telemetry == settings.telemetry and tls == inference.tls
        return same and group in inference.groups

    def close(self) -> None:
        """End all streams and free the engines. Idempotent."""
        self._host.close()


def _device(gpu_ids: list[str]) -> str:
    """Name the device; Ray has already narrowed CUDA_VISIBLE_DEVICES to it."""
    if not gpu_ids:
        return "cpu"
    kind = "cuda" if _NVIDIA.exists() else "logical-gpu"
    return f"{kind}:{','.join(gpu_ids)}"


def _address() -> str:
    return str(get_node_ip_address())  # type: ignore[no-untyped-call]  # ray.util is untyped
