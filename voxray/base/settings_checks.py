"""What the type of one setting can't say: which values fit together, what a range of ports is."""

from collections.abc import Mapping
from typing import Protocol

_LAST_PORT = 65_535


class HostValues(Protocol):
    """What is checked of the settings of hosts."""

    @property
    def min_hosts(self) -> int: ...
    @property
    def max_hosts(self) -> int: ...
    @property
    def heartbeat_s(self) -> float: ...
    @property
    def lease_s(self) -> float: ...
    @property
    def tenant_key(self) -> str: ...
    @property
    def tenant_limit(self) -> int | None: ...
    @property
    def tenant_limits(self) -> Mapping[str, int]: ...


def check_hosts(hosts: HostValues) -> None:
    """Check that the settings of hosts fit together.

    Raises:
        ValueError: says which do not.
    """
    if hosts.min_hosts > hosts.max_hosts:
        raise ValueError("min_hosts is above max_hosts")
    if hosts.heartbeat_s >= hosts.lease_s:
        raise ValueError("heartbeat_s is not below lease_s: every host would count as lost")
    if not hosts.tenant_key and (hosts.tenant_limit is not None or hosts.tenant_limits):
        raise ValueError("a limit of tenants needs tenant_key, which says what names them")


def check_port_range(value: str) -> str:
    """Return `first-last`, or an empty string, if these are ports.

    Raises:
        ValueError: they are not.
    """
    first, _, last = value.partition("-")
    if value and not 0 < int(first) <= int(last) <= _LAST_PORT:
        raise ValueError(f"must be first-last, between 1 and {_LAST_PORT}")
    return value
