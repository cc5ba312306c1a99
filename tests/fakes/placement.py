"""Hosts as placement sees them, for its tests."""

from collections.abc import Iterable

from voxray.base.ids import HostId
from voxray.dispatcher.capacity import HostSlots
from voxray.dispatcher.host_index import HostIndex
from voxray.dispatcher.placement import HostCondition, HostView, Policy


def host(name, taken=0, free=1, condition=HostCondition.READY, **fields) -> HostView:
    slots = HostSlots(capacity=taken + free, reserved=0, used=taken)
    return HostView(host_id=HostId(name), condition=condition, slots=slots, **fields)


def index_of(hosts: Iterable[HostView], policy: Policy = "pack") -> HostIndex:
    index = HostIndex(policy)
    for each in hosts:
        index.put(each)
    return index
