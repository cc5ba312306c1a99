"""Why a replica can't be placed, in words; pure."""

from collections.abc import Iterable, Mapping

from voxray.base.settings import ReplicaGroupSettings

_ACCELERATOR = "accelerator_type:"
# Ray's name for a node resource that stands for a kind of GPU; a use takes a thousandth.
_ENOUGH = 1e-6


def needs_of(group: ReplicaGroupSettings) -> dict[str, float]:
    """Return what each replica of a group asks Ray for, by Ray's names."""
    needs = {"GPU": group.gpus, "CPU": group.cpus}
    if group.accelerator_type:
        needs[f"{_ACCELERATOR}{group.accelerator_type}"] = 0.001
    return {name: amount for name, amount in needs.items() if amount > 0}


def what_is_missing(
    needs: Mapping[str, float],
    free: Mapping[str, float],
    total: Mapping[str, float],
    wanted_labels: Mapping[str, str],
    labels: Iterable[Mapping[str, str]],
) -> str:
    """Return what keeps a replica from being placed, e.g. `waits for 0.5 GPU: 0 of 2 free`.

    Args:
        needs: what it asks for.
        free: what all nodes together have left.
        total: what they have.
        wanted_labels: labels that its node must have.
        labels: those of each node.
    """
    parts = []
    for name, amount in needs.items():
        have, left = total.get(name, 0.0), free.get(name, 0.0)
        if name.startswith(_ACCELERATOR):
            if have <= 0:
                parts.append(f"a GPU of type {name.removeprefix(_ACCELERATOR)}: no node has one")
        elif left + _ENOUGH < amount:
            parts.append(f"{amount:g} {name}: {left:.3g} of {have:g} free")
    if wanted_labels and not any(
        all(node.get(key) == value for key, value in wanted_labels.items()) for node in labels
    ):
        wanted = ", ".join(f"{key}={value}" for key, value in sorted(wanted_labels.items()))
        parts.append(f"a node labelled {wanted}: there is none")
    if not parts:
        # Enough in sum: in parts on several nodes, or the process is about to start.
        return ""
    return f"waits for {'; '.join(parts)}"
