"""What every Ray actor of an app is made with."""

from dataclasses import dataclass

from voxray.base.sealed import Sealed
from voxray.base.settings import Settings
from voxray.dispatcher.role import Role


@dataclass(frozen=True, kw_only=True)
class FleetContext:
    """What every actor of the app is made with.

    Attributes:
        settings: the whole settings of the app.
        environment: variables that the program's processes get.
        token: shared secret of the app's own gRPC ports.
        role: which of the app's dispatchers asks.
    """

    settings: Settings
    environment: Sealed[dict[str, str]]
    token: Sealed[str]
    role: Role
