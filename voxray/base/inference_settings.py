"""Settings of shared inference: the replica groups."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from voxray.base.settings_part import Name, Part
from voxray.base.tls import TlsSettings


class ReplicaGroupSettings(Part):
    """One group of equal inference replicas.

    Attributes:
        name: the group's name; replicas are called `<name>-<number>`.
        engines: engine names that each replica hosts.
        engine_settings: for each engine its own settings, such as the files of its models;
            `docs/engines.md` has them.
        replicas: how many replicas run at least.
        max_replicas: how many run at most, as streams and queue demand; none takes `replicas`.
        gpus: GPU share that each replica asks Ray for (0.5 is half a GPU; above 1, whole ones).
        accelerator_type: kind of GPU that a node must have, in Ray's words (`L4`, `A100`); empty
            takes any.
        node_labels: labels that a node must have, as Ray knows them.
        cpus: CPU share that each replica asks Ray for.
        max_streams: streams that one replica accepts.
        grow_queue_ms: time that work waits for a replica from which the group grows.
        latency_budget_ms: longest time that the batcher holds a request back.
        max_batch: requests in one batch at most.
        phrase_cache_mb: memory of each replica for phrases that were spoken before and are not
            made again; 0 keeps none.
    """

    name: Name
    engines: Annotated[tuple[str, ...], Field(min_length=1)]
    engine_settings: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)
    replicas: Annotated[int, Field(ge=1, le=1000)] = 1
    max_replicas: Annotated[int, Field(ge=1, le=1000)] | None = None
    gpus: Annotated[float, Field(ge=0)] = 0.25
    accelerator_type: str = ""
    node_labels: Mapping[str, str] = Field(default_factory=dict)
    cpus: Annotated[float, Field(ge=0)] = 0.5
    max_streams: Annotated[int, Field(ge=1)] = 512
    grow_queue_ms: Annotated[float, Field(gt=0, le=60_000)] = 40.0
    latency_budget_ms: Annotated[float, Field(ge=0, le=1000)] = 8.0
    max_batch: Annotated[int, Field(ge=1, le=1024)] = 64
    phrase_cache_mb: Annotated[float, Field(ge=0, le=65_536)] = 32.0

    @property
    def most(self) -> int:
        """Replicas at most."""
        return self.replicas if self.max_replicas is None else self.max_replicas

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if self.most < self.replicas:
            raise ValueError(
                f"max_replicas must be replicas ({self.replicas}) or more, not {self.most}"
            )
        if self.gpus > 1 and self.gpus % 1:
            raise ValueError(f"gpus above 1 must be whole, not {self.gpus:g}")
        if self.accelerator_type and not self.gpus:
            raise ValueError("accelerator_type needs gpus above 0")
        return self

    @model_validator(mode="after")
    def _settings_belong_to_engines(self) -> Self:
        if strange := sorted(set(self.engine_settings) - set(self.engines)):
            raise ValueError(
                f"engine_settings of {', '.join(strange)}, which the group does not host"
            )
        return self


class InferenceSettings(Part):
    """Shared inference.

    Attributes:
        groups: the replica groups; an engine may be in several.
        coalesce_ms: how long a host gathers frames of its calls into one message.
        max_streams_per_host: streams of one host at one replica; a call takes up to three.
        tls: certificates of the gRPC ports.
    """

    groups: tuple[ReplicaGroupSettings, ...] = (
        ReplicaGroupSettings(name="speech", engines=("silero", "pocketsphinx", "espeak")),
    )
    coalesce_ms: Annotated[float, Field(ge=0, le=100)] = 10.0
    max_streams_per_host: Annotated[int, Field(ge=1)] = 256
    tls: TlsSettings = TlsSettings()

    @field_validator("groups")
    @classmethod
    def _names_differ(
        cls, groups: tuple[ReplicaGroupSettings, ...]
    ) -> tuple[ReplicaGroupSettings, ...]:
        names = [group.name for group in groups]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"group names must differ, found twice: {', '.join(sorted(twice))}")
        return groups
