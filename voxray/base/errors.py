"""The one tree of errors that voxray raises.

`retryable` belongs to the class: it says whether the same call may succeed later without a
change of input. `exit_code` is what the command line returns when the error reaches it.
Messages are lower case and say what was tried, on which id, and what happens next.
"""

from typing import ClassVar


class VoxrayError(Exception):
    """The root of every error of voxray.

    Attributes:
        details: lines that say more than the message, such as the user's frames; often none.
    """

    retryable: ClassVar[bool] = False
    exit_code: ClassVar[int] = 1
    details: tuple[str, ...] = ()


class ConfigError(VoxrayError):
    """Input of the operator is wrong: a flag, a variable, a file, a key, a program."""

    exit_code: ClassVar[int] = 2


class ProgramError(ConfigError):
    """The user's program can't be imported, or holds no AgentServer."""


class PortTakenError(ConfigError):
    """A port that was asked for is in use."""


class CredentialsError(ConfigError):
    """LiveKit refused the API key or secret."""


class MissingPartError(ConfigError):
    """A system part is not on this machine (livekit-server, Go, ...)."""


class InvalidTransitionError(VoxrayError):
    """A state machine got an event that its state does not allow: a bug in voxray.

    Attributes:
        subject: the id of the machine.
        story: its transitions so far, oldest first.
    """

    def __init__(self, subject: str, message: str, story: tuple[str, ...] = ()) -> None:
        super().__init__(f"{message} (on {subject}; story: {' | '.join(story) or 'none'})")
        self.subject = subject
        self.story = story


class ProtocolError(VoxrayError):
    """A peer sent bytes or messages that its protocol does not allow."""


class ConnectionFailedError(VoxrayError):
    """A connection could not be made, or broke."""

    retryable: ClassVar[bool] = True


class CapacityError(VoxrayError):
    """Nothing can take the work now."""

    retryable: ClassVar[bool] = True


class ActorStartError(VoxrayError):
    """A host or a replica did not start; the message carries its reason."""


class DeadlineError(VoxrayError):
    """Something did not happen within its deadline."""

    retryable: ClassVar[bool] = True


class EngineError(VoxrayError):
    """An inference engine failed on one stream; its neighbours go on."""


class EngineConfigError(EngineError, ConfigError):
    """An engine was asked for something it can't do (options, rate, language, grammar)."""


class TextTooLongError(EngineConfigError):
    """An engine was given more text at once than it speaks."""


class StreamEndedError(VoxrayError):
    """A stream has no more to give. Its three subclasses say who ended it."""


class StreamClosedError(StreamEndedError):
    """We closed the stream ourselves."""


class PeerFailedError(StreamEndedError):
    """The other side broke or refused; another replica may do."""

    retryable: ClassVar[bool] = True


class StreamGivenUpError(PeerFailedError):
    """The stream lost replica after replica: its input may be what fails them."""


class StreamFinishedError(StreamEndedError):
    """The other side said everything it had to say."""
