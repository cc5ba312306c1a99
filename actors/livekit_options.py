"""What a program gives its AgentServer: its permissions, and options that voxray has others for.

A part of `livekit_compat`: the same versions, pinned by `tests/contract/test_livekit_options.py`.
"""

from typing import Any

from livekit.agents import AgentServer, WorkerOptions
from livekit.protocol import models

# Option -> where an AgentServer keeps it. docs/drop-in.md says what stands for each.
_UNAPPLIED = {
    "host": "_host",
    "port": "_port",
    "prometheus_port": "_prometheus_port",
    "prometheus_multiproc_dir": "_prometheus_multiproc_dir",
    "job_executor_type": "_job_executor_type",
    "num_idle_processes": "_num_idle_processes",
    "multiprocessing_context": "_mp_ctx_str",
    "preload_modules": "_preload_modules",
}


def unapplied_options(server: AgentServer, *, has_load_fnc: bool) -> tuple[str, ...]:
    """Return the options that a program gave its server and that change nothing here.

    Args:
        server: the program's.
        has_load_fnc: whether the program has a load of its own, which `load_threshold` bounds.
    """
    untouched = AgentServer()
    # The two ways to make a server do not agree about this one.
    idle = (untouched._num_idle_processes, WorkerOptions.num_idle_processes)
    given = [
        option
        for option, name in _UNAPPLIED.items()
        if getattr(server, name) != getattr(untouched, name)
        and not (option == "num_idle_processes" and server._num_idle_processes in idle)
    ]
    if not has_load_fnc and server._load_threshold != untouched._load_threshold:
        given.append("load_threshold")
    return tuple(given)


def permissions_of(server: AgentServer) -> bytes:
    """Return the agent's permissions as LiveKit reads them, serialised."""
    permissions: Any = server._permissions
    return models.ParticipantPermission(
        can_publish=permissions.can_publish,
        can_subscribe=permissions.can_subscribe,
        can_publish_data=permissions.can_publish_data,
        can_update_metadata=permissions.can_update_metadata,
        can_publish_sources=permissions.can_publish_sources,
        hidden=permissions.hidden,
        agent=True,
    ).SerializeToString()
