"""Which device a replica was given, and whether its process really sees that one."""

import ctypes
from collections.abc import Mapping, Sequence
from pathlib import Path

from voxray.base.errors import EngineConfigError

# There on a machine with an NVIDIA driver.
_NVIDIA = Path("/proc/driver/nvidia/version")
_VARIABLE = "CUDA_VISIBLE_DEVICES"


def device_of(
    group: str, gpus: float, gpu_ids: Sequence[str], environment: Mapping[str, str]
) -> str:
    """Return the device's name for people: `cpu`, `cuda:0`, `logical-gpu:0`.

    Args:
        group: whose replica it is.
        gpus: the GPU share that the group asks for.
        gpu_ids: the GPUs that Ray assigned.
        environment: of this process; engines choose their device by it.

    Raises:
        EngineConfigError: it was to have a GPU and sees none, or another than Ray assigned.
    """
    real = _NVIDIA.exists()
    reason = mismatch(gpus, gpu_ids, environment.get(_VARIABLE))
    if not reason and gpu_ids and real:
        reason = unseen(len(gpu_ids), visible_cuda_devices())
    if reason:
        raise EngineConfigError(
            f"a replica of group {group} is not pinned to its GPU: {reason}; it is not started"
        )
    if not gpu_ids:
        return "cpu"
    return f"{'cuda' if real else 'logical-gpu'}:{','.join(gpu_ids)}"


def mismatch(gpus: float, gpu_ids: Sequence[str], visible: str | None) -> str:
    """Return what is wrong between what was asked, assigned and is visible, or an empty string."""
    if gpus > 0 and not gpu_ids:
        return f"it asked for {gpus:g} GPU and Ray assigned none"
    if not gpu_ids:
        return ""
    assigned = ",".join(gpu_ids)
    if visible is None:
        return (
            f"Ray assigned GPU {assigned} and {_VARIABLE} is not set (is "
            "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES?), so that it would see all of them"
        )
    if [each.strip() for each in visible.split(",")] != list(gpu_ids):
        return f"Ray assigned GPU {assigned} and {_VARIABLE} is {visible!r}"
    return ""


def unseen(assigned: int, visible: int | None) -> str:
    """Return what is wrong with the GPUs that the driver shows, or an empty string."""
    if visible is None:
        return "NVIDIA's driver is there and its CUDA library can't be loaded"
    if visible != assigned:
        return f"Ray assigned {assigned} and CUDA sees {visible}"
    return ""


def visible_cuda_devices() -> int | None:
    """Return how many GPUs CUDA shows this process; None without a usable CUDA library.

    It makes no context, and so takes no memory of a GPU.
    """
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    count = ctypes.c_int()
    # CUDA_ERROR_NO_DEVICE (100) of cuInit is an answer as well: none.
    if cuda.cuInit(0) != 0 or cuda.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value
