"""Which of the app's dispatchers this one is, and what falls to it alone."""

from collections.abc import Callable
from dataclasses import dataclass

from voxray.base.ids import HostId, dispatcher_of_host, new_host_id


@dataclass(frozen=True, kw_only=True)
class Role:
    """One of the app's equal dispatchers; what must be done once for all falls to the first.

    Attributes:
        index: from 0.
        count: dispatchers of the app.
        port: of its HTTP API; 0 takes a free one, None the settings'.
        host_ids: makes an id for a new host of a dispatcher, given its index.
    """

    index: int = 0
    count: int = 1
    port: int | None = None
    host_ids: Callable[[int], HostId] = new_host_id

    @property
    def leads(self) -> bool:
        """Whether it starts and stops the replicas and looks for rooms without an agent."""
        return self.index == 0

    @property
    def others(self) -> tuple[int, ...]:
        """The other dispatchers' numbers."""
        return tuple(each for each in range(self.count) if each != self.index)

    def new_host_id(self) -> HostId:
        """Return an id for a new host of this dispatcher."""
        return self.host_ids(self.index)

    def owns(self, host_id: HostId) -> bool:
        """Whether a host is this dispatcher's. The first one takes those of dispatchers that the
        app has no more.
        """
        owner = dispatcher_of_host(host_id)
        return owner == self.index or (self.leads and owner >= self.count)
