"""Our errors in the words of livekit-agents, which decides by them what to try again."""

from livekit.agents import APIConnectionError, APIError, APIStatusError, APITimeoutError

from voxray.base.errors import (
    CapacityError,
    ConnectionFailedError,
    DeadlineError,
    EngineConfigError,
    StreamEndedError,
    VoxrayError,
)

_BAD_REQUEST = 400
_UNAVAILABLE = 503


def api_error(error: VoxrayError) -> APIError:
    """Return the error that livekit-agents expects from a plugin; raise it `from` ours."""
    message = str(error)
    if isinstance(error, EngineConfigError):
        return APIStatusError(message, status_code=_BAD_REQUEST, retryable=False)
    if isinstance(error, CapacityError):
        return APIStatusError(message, status_code=_UNAVAILABLE, retryable=True)
    if isinstance(error, DeadlineError):
        return APITimeoutError(message)
    if isinstance(error, (ConnectionFailedError, StreamEndedError)):
        return APIConnectionError(message, retryable=error.retryable)
    return APIError(message, retryable=error.retryable)
