"""What a dispatcher is told of itself and of its place in the world."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from voxray.dispatcher.kept import Kept
from voxray.dispatcher.role import Role


@dataclass(frozen=True, kw_only=True)
class Access:
    """Who may ask the dispatcher, which one it is, and how it reaches the world.

    Attributes:
        token: what the HTTP API asks for beyond loopback.
        environment: where an HTTP proxy may be named.
        node: Ray node id, for the status.
        address: of the node, under which an API that listens on all addresses is reached.
        role: which of the app's dispatchers it is.
        on_over: called once everything has ended and whoever waits for it could know.
        kept: what a restarted dispatcher has to know; None where nobody restarts it.
    """

    token: str = field(repr=False)
    environment: Mapping[str, str] = field(repr=False, default_factory=dict)
    node: str = ""
    address: str = "127.0.0.1"
    role: Role = field(default_factory=Role)
    on_over: Callable[[], None] | None = None
    kept: Kept | None = None
