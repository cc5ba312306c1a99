"""How callers get into rooms: the server's address, the keys, and their tokens."""

import secrets
from dataclasses import dataclass, field
from datetime import timedelta

from livekit import api

_TOKEN_LIFE = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class LiveKitAccess:
    """A LiveKit server and the keys to it.

    Attributes:
        url: `ws://` or `wss://` address.
        agent_name: agent to dispatch by name; empty for an agent with automatic dispatch.
    """

    url: str
    api_key: str
    api_secret: str = field(repr=False)
    agent_name: str = ""

    def caller_token(self, room: str, identity: str) -> str:
        """Return a token for a caller; the first one to use it creates the room."""
        token = (
            api.AccessToken(self.api_key, self.api_secret)
            .with_identity(identity)
            .with_grants(api.VideoGrants(room_join=True, room=room))
            .with_ttl(_TOKEN_LIFE)
        )
        if self.agent_name:
            dispatch = api.RoomAgentDispatch(agent_name=self.agent_name)
            token = token.with_room_config(api.RoomConfiguration(agents=[dispatch]))
        return token.to_jwt()


def new_room_name(prefix: str) -> str:
    """Return a room name that no earlier call had."""
    return f"{prefix}-{secrets.token_hex(4)}"
