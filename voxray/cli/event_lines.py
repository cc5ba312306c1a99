"""Events of the dispatcher as lines for the person at the terminal."""

from collections.abc import Mapping
from typing import Any

# What an event is called in the API -> how it reads. Events without a line are not printed.
_LINES: Mapping[str, str] = {
    "WorkerRegistered": "registered at LiveKit as {worker_id}",
    "WorkerDisconnected": "lost the connection to LiveKit: {reason}; calls go on, reconnecting",
    "JobPlaced": "{job_id} placed on host {host_id} (generation {generation}, {cause})",
    "JobRunning": "{job_id} runs on host {host_id} after {seconds:.2f} s",
    "JobEnded": "{job_id} ended: {outcome} {reason}",
    "FailoverDone": (
        "{job_id} {outcome} on host {to_host} after {from_host} was lost ({kind}): "
        "seen after {detection_s:.2f} s, back after {gap_s:.2f} s"
    ),
    "TerminationIgnored": "{job_id}: a stale termination was ignored, its agent is in the room",
    "HostReady": "host {host_id} is ready after {seconds:.1f} s",
    "HostStartFailed": "host {host_id} did not start: {reason}",
    "HostLost": "host {host_id} is lost with {jobs} calls ({kind}): {evidence}",
    "HostRetired": "host {host_id} was retired: {reason}",
    "LoopBlocked": (
        "{job_id} blocks the event loop of host {host_id} for {seconds:.1f} s now, at {where}"
    ),
    "LoopFreed": (
        "the event loop of host {host_id} runs again after {seconds:.1f} s ({job_id} blocked it)"
    ),
    "ReplicaReady": "inference replica {replica_id} is ready on device {device}",
    "ReplicaWaiting": "inference replica {replica_id} {reason}; it starts once there is",
    "ReplicaDraining": "inference replica {replica_id} is not needed; its {streams} streams move",
    "GroupResized": "replica group {group} should have {wanted} replicas for {streams} streams",
    "ReplicaLost": "inference replica {replica_id} is lost: {reason}",
}


def line_of(event: Mapping[str, Any]) -> str:
    """Return the line of an event as the API gives it, or an empty string for none."""
    if event.get("type") == "JobAnswered" and event.get("outcome") != "accepted":
        return f"{event.get('job_id')} refused: {event.get('outcome')}"
    if event.get("type") == "HostStartFailed" and event.get("repeats", 1) > 1:
        return ""  # The same again: it is counted, and was told when it first happened.
    template = _LINES.get(str(event.get("type")))
    if template is None:
        return ""
    try:
        line = template.format_map(event).rstrip()
        return "\n    ".join((line, *event.get("details", ())))
    except (KeyError, ValueError, TypeError):
        # An event of another version: say what there is.
        return f"{event.get('type')} {dict(event)}"
