"""How a host is told that a stream of its was refused, has failed or is over."""

from voxray.base.errors import (
    EngineConfigError,
    EngineError,
    StreamEndedError,
    StreamFinishedError,
)
from voxray.pipelines.wire import messages as m

_REASON_CHARACTERS = 500


def failed(number: int, code: str, reason: str, *, retryable: bool = False) -> m.Failed:
    """Return what is said of a stream that failed; `retryable` if another replica may do."""
    return m.Failed(number, code, reason[:_REASON_CHARACTERS], retryable)


def last_word(number: int, end: StreamEndedError | EngineError) -> m.Finished | m.Failed:
    """Return what is said of a stream that its engine has ended."""
    match end:
        case StreamFinishedError():
            return m.Finished(number)
        case EngineConfigError():
            return failed(number, "config", str(end))
        case EngineError():
            return failed(number, "engine", str(end))
        case _:
            return failed(number, "overloaded", "the replica is closing", retryable=True)
