"""Inference replicas as Ray actors: placed where their device is, loaded, found again.

Ray schedules a replica and pins it to its share of a GPU. What no node can hold stays pending in
Ray, so that a cluster that grows by demand sees it; until then we say what is missing.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import ray

from voxray.actors.contracts import Endpoint
from voxray.actors.inference_actor import InferenceActor
from voxray.base.errors import VoxrayError
from voxray.base.ids import ReplicaId, replica_actor_name, replica_of_actor_name
from voxray.base.settings import ReplicaGroupSettings
from voxray.dispatcher.ray_actors import Actor, RayActors
from voxray.dispatcher.ray_context import FleetContext
from voxray.dispatcher.shortage import needs_of, what_is_missing

# A look at a replica that may still load its engines.
_GLANCE_S = 1.0
_LOAD_DEADLINE_S = 120.0
# A process starts within this; a replica without one for longer is looked into, again and again.
_PLACING_S = 4.0
# A replica that can't be placed waits for as long as it is wanted: who stops it ends the wait.
_FOREVER_S = 10 * 365 * 86_400.0


class RayReplicas:
    """Starts and finds the replicas of one app."""

    def __init__(self, context: FleetContext, actors: RayActors) -> None:
        """Prepare."""
        self._context = context
        self._actors = actors

    async def find(self) -> dict[ReplicaId, Endpoint]:
        """Return the app's replicas that are alive."""
        found = {}
        for name in await self._actors.names():
            if (replica_id := replica_of_actor_name(name)) is None:
                continue
            # One that does not answer is starting or ending; its owner sees to it.
            with contextlib.suppress(VoxrayError):
                found[replica_id] = await self._actors.call(name, "endpoint", timeout_s=_GLANCE_S)
        return found

    async def adopt(self, names: list[str]) -> dict[ReplicaId, Endpoint]:
        """Return those that were left running and are of use; the others are ended."""
        found = {
            replica_id: await self._actors.adopt(name, self._context.settings)
            for name in names
            if (replica_id := replica_of_actor_name(name)) is not None
        }
        return {replica_id: where for replica_id, where in found.items() if where is not None}

    async def start(
        self,
        replica_id: ReplicaId,
        group: ReplicaGroupSettings,
        on_waiting: Callable[[str], None],
    ) -> Endpoint:
        """Start a replica and wait until its engines are loaded.

        Args:
            replica_id: its id.
            group: its group.
            on_waiting: told what no node has, as long as it can't be placed; then, once, nothing.

        Raises:
            ActorStartError: it did not start; the message carries the reason.
        """
        context = self._context
        name = replica_actor_name(replica_id)
        options = self._actors.options(
            name, num_cpus=group.cpus, num_gpus=group.gpus, **_wishes(group)
        )

        def create() -> Actor:
            return (
                ray.remote(InferenceActor)
                .options(**options)
                .remote(replica_id, group, context.settings, context.environment, context.token)
            )

        async with self._actors.starting(name, create):
            await self._placed(name, group, on_waiting)
            endpoint = await self._actors.call(name, "load", timeout_s=_LOAD_DEADLINE_S)
            return Endpoint.model_validate(endpoint)

    async def _placed(
        self, name: str, group: ReplicaGroupSettings, on_waiting: Callable[[str], None]
    ) -> None:
        """Wait until the replica has a process; it checks its device then."""
        answer = asyncio.ensure_future(
            self._actors.first_answer(name, "device", timeout_s=_FOREVER_S)
        )
        told = ""
        try:
            while not answer.done():
                await asyncio.wait((answer,), timeout=_PLACING_S)
                missing = "" if answer.done() else await self._missing(group)
                if missing != told:
                    on_waiting(missing)
                    told = missing
            await answer
        finally:
            answer.cancel()

    async def _missing(self, group: ReplicaGroupSettings) -> str:
        actors = self._actors
        try:
            free = await actors.blocking(ray.available_resources, "ask Ray what is free")
            total = await actors.blocking(ray.cluster_resources, "ask Ray what there is")
            nodes = await actors.blocking(ray.nodes, "ask Ray for its nodes")
        except VoxrayError as error:
            return f"waits: {error}"
        labels: list[Mapping[str, str]] = [
            node.get("Labels") or {} for node in nodes if node.get("Alive")
        ]
        return what_is_missing(needs_of(group), free, total, group.node_labels, labels)


def _wishes(group: ReplicaGroupSettings) -> dict[str, Any]:
    """Return what else Ray is asked for."""
    wishes: dict[str, Any] = {}
    if group.accelerator_type:
        wishes["accelerator_type"] = group.accelerator_type
    if group.node_labels:
        wishes["label_selector"] = dict(group.node_labels)
    return wishes
