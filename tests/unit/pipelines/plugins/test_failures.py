import pytest
from livekit.agents import APIConnectionError, APIError, APIStatusError, APITimeoutError

from voxray.base.errors import (
    CapacityError,
    ConnectionFailedError,
    DeadlineError,
    EngineConfigError,
    EngineError,
    PeerFailedError,
    ProtocolError,
    StreamClosedError,
    VoxrayError,
)
from voxray.pipelines.plugins.failures import api_error


@pytest.mark.parametrize(
    ("error", "kind", "retryable"),
    [
        (EngineConfigError, APIStatusError, False),
        (CapacityError, APIStatusError, True),
        (DeadlineError, APITimeoutError, True),
        (ConnectionFailedError, APIConnectionError, True),
        (PeerFailedError, APIConnectionError, True),
        (StreamClosedError, APIConnectionError, False),
        (EngineError, APIError, False),
        (ProtocolError, APIError, False),
    ],
)
def test_livekit_agents_learns_what_to_try_again(
    error: type[VoxrayError], kind: type[APIError], retryable: bool
) -> None:
    ours = error("replica speech-0 broke")
    theirs = api_error(ours)
    theirs.__cause__ = ours

    assert type(theirs) is kind
    assert theirs.retryable is retryable
    assert "replica speech-0 broke" in str(theirs)
