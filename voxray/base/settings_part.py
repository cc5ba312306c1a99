"""What all parts of the settings share."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")]


class Part(BaseModel):
    """A part: frozen, and without a field that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")
