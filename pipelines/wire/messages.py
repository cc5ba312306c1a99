"""The messages of the inference contract as plain types (`inference.proto` explains each)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from voxray.base.errors import ProtocolError
from voxray.pipelines.engines.base import (
    EngineInfo,
    ProbabilityOutput,
    SpeechEdgeOutput,
    TranscriptOutput,
    TurnOutput,
)

VERSION = 1
"""What this side speaks."""
SERVED_VERSIONS = frozenset({VERSION, VERSION - 1} - {0})
"""What a server of this version understands: its own and the one before."""
INITIAL_WINDOW_BYTES = 256 * 1024
"""Audio of a source that may be unacknowledged until the server says otherwise: 2.7 s at 48 kHz."""
MAX_UNACKNOWLEDGED = 256
"""Audio messages of a source that may be unacknowledged; half of what a replica queues."""
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""Size of a batch, in either direction; gRPC's own default for what is received."""
MAX_BATCH_MESSAGES = 16_384
"""Messages in one batch: few enough to be read in a moment in which nobody else is served."""
MAX_PCM_BYTES = 256 * 1024
"""Audio in one message."""
MAX_TEXT_BYTES = 64 * 1024
"""Text in one message."""
MAX_OPTIONS_BYTES = 512 * 1024
"""Options of a stream as JSON; a grammar is the longest of them."""
MAX_NAME_BYTES = 256
"""Names, ids and codes."""


@dataclass(frozen=True, slots=True)
class Open:
    """Starts stream `stream` of an engine; `source` is 0 where no audio is listened to."""

    stream: int
    engine: str
    source: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class Audio:
    """16-bit little-endian mono PCM at `rate` Hz; `sequence` counts from 1 in each source."""

    source: int
    sequence: int
    rate: int
    pcm: bytes


@dataclass(frozen=True, slots=True)
class AudioAgain:
    """Audio of a source that was sent on this connection before, perhaps for another source.

    It is `size` bytes from `offset` of audio `of_sequence` of source `of_source`.
    """

    source: int
    sequence: int
    of_source: int
    of_sequence: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Text:
    """Text to speak."""

    stream: int
    text: str


@dataclass(frozen=True, slots=True)
class Flush:
    """Ends the current segment; `discard`: nothing is said about it."""

    stream: int
    discard: bool = False


@dataclass(frozen=True, slots=True)
class EndInput:
    """No more input comes on the stream."""

    stream: int


@dataclass(frozen=True, slots=True)
class Close:
    """Abandons the stream."""

    stream: int


@dataclass(frozen=True, slots=True)
class CloseSource:
    """No more audio comes from the source."""

    source: int


@dataclass(frozen=True, slots=True)
class Credit:
    """Allows the server this many more bytes of speech on the stream."""

    stream: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Malformed:
    """A message that parsed but says nonsense; of one stream, or of all that hear a source."""

    stream: int
    source: int
    error: ProtocolError


ClientMessage: TypeAlias = (
    Open | Audio | AudioAgain | Text | Flush | EndInput | Close | CloseSource | Credit
)


@dataclass(frozen=True, slots=True)
class ClientBatch:
    """What a host sends at once. `version` and `host` are set on the first of a connection."""

    messages: tuple[ClientMessage | Malformed, ...]
    version: int = 0
    host: str = ""


@dataclass(frozen=True, slots=True)
class Opened:
    """The stream is served by this engine."""

    stream: int
    engine: EngineInfo


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """Audio of the source was taken in up to `sequence`; `window` bytes may be on their way."""

    source: int
    sequence: int
    window: int


@dataclass(frozen=True, slots=True)
class Result:
    """A result other than speech."""

    stream: int
    output: ProbabilityOutput | SpeechEdgeOutput | TranscriptOutput | TurnOutput


@dataclass(frozen=True, slots=True)
class Speech:
    """Synthesised 16-bit little-endian mono PCM at `rate` Hz.

    `first_sample` is its place in what the stream has said since it opened.
    """

    stream: int
    first_sample: int
    rate: int
    pcm: bytes


@dataclass(frozen=True, slots=True)
class Flushed:
    """The first `count` flushes of the stream were worked through."""

    stream: int
    count: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The stream said everything."""

    stream: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The stream was refused or failed; 0 means the whole connection.

    Codes on the wire: config, limit, input, engine, protocol, overloaded.
    """

    stream: int
    code: str
    message: str
    retryable: bool


@dataclass(frozen=True, slots=True)
class Load:
    """What a replica has to do now: open streams, its limit, and seconds that work waits."""

    streams: int
    max_streams: int
    queue_s: float


StreamMessage: TypeAlias = Opened | Result | Speech | Flushed | Finished | Failed
ServerMessage: TypeAlias = StreamMessage | Acknowledged | Load


@dataclass(frozen=True, slots=True)
class ServerBatch:
    """What a replica sends at once."""

    messages: tuple[ServerMessage, ...]
    version: int = VERSION


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a replica says of itself.

    `recall_bytes` of the last audio of a connection may be repeated by `AudioAgain`.
    `load_interval_ms` says how often it sends `Load`; 0 for never.
    """

    replica: str
    engines: tuple[EngineInfo, ...]
    streams: int
    max_streams: int
    recall_bytes: int = 0
    version: int = VERSION
    load_interval_ms: int = 0
