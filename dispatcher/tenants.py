"""Tenants: whose call a job is, and how many calls each may have at once."""

import json

from voxray.base.settings import HostSettings

_SHOWN = 64
"""Characters of a tenant's name that a story shows at most."""


def tenant_of(metadata: str, key: str) -> str:
    """Return the tenant that a job's metadata names; empty for none.

    Args:
        metadata: of the job; it names a tenant when it is a JSON object with a text or a whole
            number under `key`.
        key: empty when there are no tenants.
    """
    if not key or not metadata.lstrip().startswith("{"):
        return ""
    try:
        value = json.loads(metadata).get(key)
    except (ValueError, RecursionError):
        return ""
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def tenant_limit(tenant: str, settings: HostSettings) -> int | None:
    """Return how many calls a tenant may have at once; None for any number."""
    if not tenant:
        return None
    return settings.tenant_limits.get(tenant, settings.tenant_limit)


def at_limit(tenant: str, limit: int) -> str:
    """Return the reason of a refusal."""
    return f"tenant {tenant[:_SHOWN]} at its limit ({limit})"
