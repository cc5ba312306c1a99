"""The secret that the processes of one app share: for its HTTP API and its gRPC ports."""

import base64
import hashlib
import hmac


def app_token(app: str, api_secret: str) -> str:
    """Return the app's token.

    It is made from the LiveKit secret, from which nothing leads back to that, and is the same
    whenever the app is started with the same secret: what an unclean stop left running can be
    taken over, and a scraper keeps its token.

    Args:
        app: the app's name.
        api_secret: LiveKit's; not empty.
    """
    digest = hmac.digest(api_secret.encode(), f"voxray app token: {app}".encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
