"""The sizes of all replica groups, kept by what their replicas report."""

from collections.abc import Iterable, Sequence

from voxray.base.settings import ReplicaGroupSettings
from voxray.dispatcher.group_size import GroupLoad, GroupSize
from voxray.dispatcher.replica_records import ReplicaRecord, ReplicaState
from voxray.dispatcher.state import CoreState
from voxray.observability.events import GroupResized


class GroupSizes:
    """One `GroupSize` for each group."""

    def __init__(self, state: CoreState, groups: Iterable[ReplicaGroupSettings]) -> None:
        self._state = state
        self._sizes = {group.name: GroupSize(group) for group in groups}

    def wanted(self, group: str) -> int:
        """Return how many replicas a group should have."""
        return self._sizes[group].wanted

    def found(self, replicas: Sequence[ReplicaRecord]) -> None:
        """Begin with what an earlier dispatcher left running."""
        for name, size in self._sizes.items():
            size.found(sum(each.group == name for each in replicas))

    def resize(self, group: str, replicas: Iterable[ReplicaRecord]) -> int:
        """Return how many replicas a group should have, by what its replicas have to do now."""
        state, size = self._state, self._sizes[group]
        ours = [each for each in replicas if each.group == group]
        ready = [each for each in ours if each.state is ReplicaState.READY]
        load = GroupLoad(
            ready=len(ready),
            starting=sum(each.state is ReplicaState.STARTING for each in ours),
            streams=sum(each.streams for each in ready),
            queue_s=sum(each.queue_s for each in ready) / max(len(ready), 1),
        )
        before = size.wanted
        if size.decide(load, state.now) != before:
            resized = GroupResized(
                group=group, wanted=size.wanted, streams=load.streams, queue_s=load.queue_s
            )
            state.emit(resized)
        return size.wanted

    def next_look(self, group: str) -> float | None:
        """Return when time alone changes a group's size."""
        return self._sizes[group].next_look()


def least_needed(replicas: Sequence[ReplicaRecord]) -> list[ReplicaRecord]:
    """Order replicas by how little is lost with each: not yet up, few streams, young."""
    newest_first = replicas[::-1]
    return sorted(newest_first, key=lambda e: (e.state is ReplicaState.READY, e.streams))
