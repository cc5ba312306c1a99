"""Names of span and log attributes, each marked safe or private.

Private ones name a person or what was said; they leave a process only where the operator asked
for it (livekit-agents' own switch is `LIVEKIT_TELEMETRY_ALLOW_PII`).
"""

from enum import StrEnum


class SafeAttribute(StrEnum):
    """Attributes that may go to any back end."""

    APP = "voxray.app"
    ROLE = "voxray.role"
    JOB_ID = "lk.job_id"
    ROOM_SID = "lk.room_sid"
    HOST_ID = "voxray.host.id"
    FROM_HOST = "voxray.failover.from_host"
    TO_HOST = "voxray.failover.to_host"
    GENERATION = "voxray.job.generation"
    CAUSE = "voxray.placement.cause"
    OUTCOME = "voxray.outcome"
    FAILOVER_KIND = "voxray.failover.kind"
    DETECTION_S = "voxray.failover.detection_s"
    GAP_S = "voxray.failover.gap_s"
    ENGINE = "voxray.inference.engine"
    BATCH_SIZE = "voxray.inference.batch_size"
    QUEUE_S = "voxray.inference.queue_s"
    REPLICA_ID = "voxray.replica.id"


class PrivateAttribute(StrEnum):
    """Attributes that may hold what a person is called or said."""

    ROOM_NAME = "lk.room_name"
    IDENTITY = "lk.pii.participant_identity"


class SpanName(StrEnum):
    """Spans of our own; livekit-agents names its own tree."""

    PLACEMENT = "voxray.placement"
    RESUME = "voxray.resume"
    BATCH = "voxray.inference.batch"
