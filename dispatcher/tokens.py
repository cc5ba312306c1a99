"""Access tokens: ours towards LiveKit, and the agents' for a later generation of their job."""

import time
from datetime import timedelta
from typing import Any

import jwt
from livekit.api import AccessToken, VideoGrants

from voxray.base.errors import CredentialsError, ProtocolError
from voxray.base.settings import LiveKitSettings

WORKER_TOKEN_TTL_S = 600.0
"""A worker token is checked once, on the handshake; the rest is for clocks that differ."""
ROOM_TOKEN_TTL_S = 60.0
"""A room token serves one question."""
AGENT_TOKEN_TTL_S = 3600.0
"""What livekit-agents gives a token that it signs again for a reloaded job."""

_ALGORITHM = "HS256"


def worker_token(settings: LiveKitSettings) -> str:
    """Return a token that lets a worker register."""
    return _sign(settings, VideoGrants(agent=True), WORKER_TOKEN_TTL_S)


def room_token(settings: LiveKitSettings, room: str) -> str:
    """Return a token for questions about one room: whether it exists and who is in it."""
    grants = VideoGrants(room_list=True, room_admin=True, room=room)
    return _sign(settings, grants, ROOM_TOKEN_TTL_S)


def simulated_token(settings: LiveKitSettings, room: str, identity: str) -> str:
    """Return a token with which an agent joins a room, as livekit-agents signs one for a
    simulated job.

    One right more: with LiveKit's own token, agents tell their state by attributes of theirs.
    """
    grants = VideoGrants(room_join=True, room=room, agent=True, can_update_own_metadata=True)
    token = AccessToken(settings.api_key, settings.api_secret.get_secret_value())
    return token.with_identity(identity).with_kind("agent").with_grants(grants).to_jwt()


def resign(
    token: str, secret: str, ttl_s: float = AGENT_TOKEN_TTL_S, *, now_s: float | None = None
) -> str:
    """Return a token with the same claims, valid from now on for `ttl_s` seconds.

    The old token may have expired: that is what this is for.

    Args:
        token: signed by LiveKit for an assignment.
        secret: the secret of the API key that both sides share.
        ttl_s: seconds that the new token is valid.
        now_s: Unix seconds; None takes the machine's clock.

    Raises:
        CredentialsError: the token was signed with another secret.
        ProtocolError: the token is none.
    """
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            secret,
            algorithms=[_ALGORITHM],
            options={"verify_exp": False, "verify_nbf": False, "verify_iat": False},
        )
    except jwt.InvalidSignatureError as error:
        raise CredentialsError(
            "the token of a job was signed with another secret than ours; "
            "check LIVEKIT_API_KEY and LIVEKIT_API_SECRET"
        ) from error
    except jwt.InvalidTokenError as error:
        raise ProtocolError("the token of a job is not a token that livekit signs") from error
    now = int(time.time() if now_s is None else now_s)
    claims["nbf"] = now
    claims["exp"] = now + int(ttl_s)
    return jwt.encode(claims, secret, algorithm=_ALGORITHM)


def _sign(settings: LiveKitSettings, grants: VideoGrants, ttl_s: float) -> str:
    token = AccessToken(settings.api_key, settings.api_secret.get_secret_value())
    return token.with_grants(grants).with_ttl(timedelta(seconds=ttl_s)).to_jwt()
