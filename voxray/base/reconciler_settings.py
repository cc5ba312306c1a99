"""Settings of the search for rooms whose callers have no agent."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class ReconcilerSettings(BaseModel):
    """The search for rooms whose callers have no agent.

    Attributes:
        enabled: whether rooms are searched at all.
        interval_s: pause between two lists of all rooms.
        settle_s: how long a dispatch without a job is left alone before it counts as unserved.
            Take 8 s or more where workers that are not of this app register under the same agent
            name: LiveKit shows their jobs that late.
        rate: rooms looked at, and dispatches created, per second at most.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = True
    interval_s: Annotated[float, Field(gt=0, le=86_400)] = 3.0
    settle_s: Annotated[float, Field(ge=0, le=60)] = 1.5
    rate: Annotated[float, Field(gt=0, le=10_000)] = 50.0
