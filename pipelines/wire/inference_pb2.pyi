from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DescribeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DescribeResponse(_message.Message):
    __slots__ = ("version", "replica", "engines", "streams", "max_streams", "recall_bytes", "load_interval_ms")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    REPLICA_FIELD_NUMBER: _ClassVar[int]
    ENGINES_FIELD_NUMBER: _ClassVar[int]
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    MAX_STREAMS_FIELD_NUMBER: _ClassVar[int]
    RECALL_BYTES_FIELD_NUMBER: _ClassVar[int]
    LOAD_INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    version: int
    replica: str
    engines: _containers.RepeatedCompositeFieldContainer[EngineDescription]
    streams: int
    max_streams: int
    recall_bytes: int
    load_interval_ms: int
    def __init__(self, version: _Optional[int] = ..., replica: _Optional[str] = ..., engines: _Optional[_Iterable[_Union[EngineDescription, _Mapping]]] = ..., streams: _Optional[int] = ..., max_streams: _Optional[int] = ..., recall_bytes: _Optional[int] = ..., load_interval_ms: _Optional[int] = ...) -> None: ...

class EngineDescription(_message.Message):
    __slots__ = ("name", "kind", "model", "provider", "sample_rate")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_RATE_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: str
    model: str
    provider: str
    sample_rate: int
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[str] = ..., model: _Optional[str] = ..., provider: _Optional[str] = ..., sample_rate: _Optional[int] = ...) -> None: ...

class ClientBatch(_message.Message):
    __slots__ = ("version", "host", "messages")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    version: int
    host: str
    messages: _containers.RepeatedCompositeFieldContainer[ClientMessage]
    def __init__(self, version: _Optional[int] = ..., host: _Optional[str] = ..., messages: _Optional[_Iterable[_Union[ClientMessage, _Mapping]]] = ...) -> None: ...

class ClientMessage(_message.Message):
    __slots__ = ("open", "audio", "text", "flush", "end_input", "close", "close_source", "credit", "audio_again")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    FLUSH_FIELD_NUMBER: _ClassVar[int]
    END_INPUT_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    CLOSE_SOURCE_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    AUDIO_AGAIN_FIELD_NUMBER: _ClassVar[int]
    open: Open
    audio: Audio
    text: Text
    flush: Flush
    end_input: EndInput
    close: Close
    close_source: CloseSource
    credit: Credit
    audio_again: AudioAgain
    def __init__(self, open: _Optional[_Union[Open, _Mapping]] = ..., audio: _Optional[_Union[Audio, _Mapping]] = ..., text: _Optional[_Union[Text, _Mapping]] = ..., flush: _Optional[_Union[Flush, _Mapping]] = ..., end_input: _Optional[_Union[EndInput, _Mapping]] = ..., close: _Optional[_Union[Close, _Mapping]] = ..., close_source: _Optional[_Union[CloseSource, _Mapping]] = ..., credit: _Optional[_Union[Credit, _Mapping]] = ..., audio_again: _Optional[_Union[AudioAgain, _Mapping]] = ...) -> None: ...

class Open(_message.Message):
    __slots__ = ("stream", "engine", "source", "options", "traceparent")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    stream: int
    engine: str
    source: int
    options: str
    traceparent: str
    def __init__(self, stream: _Optional[int] = ..., engine: _Optional[str] = ..., source: _Optional[int] = ..., options: _Optional[str] = ..., traceparent: _Optional[str] = ...) -> None: ...

class Audio(_message.Message):
    __slots__ = ("source", "sequence", "rate", "pcm")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    RATE_FIELD_NUMBER: _ClassVar[int]
    PCM_FIELD_NUMBER: _ClassVar[int]
    source: int
    sequence: int
    rate: int
    pcm: bytes
    def __init__(self, source: _Optional[int] = ..., sequence: _Optional[int] = ..., rate: _Optional[int] = ..., pcm: _Optional[bytes] = ...) -> None: ...

class AudioAgain(_message.Message):
    __slots__ = ("source", "sequence", "of_source", "of_sequence", "offset", "size")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    OF_SOURCE_FIELD_NUMBER: _ClassVar[int]
    OF_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    source: int
    sequence: int
    of_source: int
    of_sequence: int
    offset: int
    size: int
    def __init__(self, source: _Optional[int] = ..., sequence: _Optional[int] = ..., of_source: _Optional[int] = ..., of_sequence: _Optional[int] = ..., offset: _Optional[int] = ..., size: _Optional[int] = ...) -> None: ...

class Text(_message.Message):
    __slots__ = ("stream", "text")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    stream: int
    text: str
    def __init__(self, stream: _Optional[int] = ..., text: _Optional[str] = ...) -> None: ...

class Flush(_message.Message):
    __slots__ = ("stream", "discard")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    DISCARD_FIELD_NUMBER: _ClassVar[int]
    stream: int
    discard: bool
    def __init__(self, stream: _Optional[int] = ..., discard: _Optional[bool] = ...) -> None: ...

class EndInput(_message.Message):
    __slots__ = ("stream",)
    STREAM_FIELD_NUMBER: _ClassVar[int]
    stream: int
    def __init__(self, stream: _Optional[int] = ...) -> None: ...

class Close(_message.Message):
    __slots__ = ("stream",)
    STREAM_FIELD_NUMBER: _ClassVar[int]
    stream: int
    def __init__(self, stream: _Optional[int] = ...) -> None: ...

class CloseSource(_message.Message):
    __slots__ = ("source",)
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    source: int
    def __init__(self, source: _Optional[int] = ...) -> None: ...

class Credit(_message.Message):
    __slots__ = ("stream", "bytes")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    stream: int
    bytes: int
    def __init__(self, stream: _Optional[int] = ..., bytes: _Optional[int] = ...) -> None: ...

class ServerBatch(_message.Message):
    __slots__ = ("version", "messages")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    version: int
    messages: _containers.RepeatedCompositeFieldContainer[ServerMessage]
    def __init__(self, version: _Optional[int] = ..., messages: _Optional[_Iterable[_Union[ServerMessage, _Mapping]]] = ...) -> None: ...

class ServerMessage(_message.Message):
    __slots__ = ("opened", "acknowledged", "probability", "speech_edge", "transcript", "speech", "finished", "failed", "flushed", "turn", "load")
    OPENED_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    SPEECH_EDGE_FIELD_NUMBER: _ClassVar[int]
    TRANSCRIPT_FIELD_NUMBER: _ClassVar[int]
    SPEECH_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    FLUSHED_FIELD_NUMBER: _ClassVar[int]
    TURN_FIELD_NUMBER: _ClassVar[int]
    LOAD_FIELD_NUMBER: _ClassVar[int]
    opened: Opened
    acknowledged: Acknowledged
    probability: Probability
    speech_edge: SpeechEdge
    transcript: Transcript
    speech: Speech
    finished: Finished
    failed: Failed
    flushed: Flushed
    turn: Turn
    load: Load
    def __init__(self, opened: _Optional[_Union[Opened, _Mapping]] = ..., acknowledged: _Optional[_Union[Acknowledged, _Mapping]] = ..., probability: _Optional[_Union[Probability, _Mapping]] = ..., speech_edge: _Optional[_Union[SpeechEdge, _Mapping]] = ..., transcript: _Optional[_Union[Transcript, _Mapping]] = ..., speech: _Optional[_Union[Speech, _Mapping]] = ..., finished: _Optional[_Union[Finished, _Mapping]] = ..., failed: _Optional[_Union[Failed, _Mapping]] = ..., flushed: _Optional[_Union[Flushed, _Mapping]] = ..., turn: _Optional[_Union[Turn, _Mapping]] = ..., load: _Optional[_Union[Load, _Mapping]] = ...) -> None: ...

class Opened(_message.Message):
    __slots__ = ("stream", "engine")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    stream: int
    engine: EngineDescription
    def __init__(self, stream: _Optional[int] = ..., engine: _Optional[_Union[EngineDescription, _Mapping]] = ...) -> None: ...

class Acknowledged(_message.Message):
    __slots__ = ("source", "sequence", "window")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    source: int
    sequence: int
    window: int
    def __init__(self, source: _Optional[int] = ..., sequence: _Optional[int] = ..., window: _Optional[int] = ...) -> None: ...

class Probability(_message.Message):
    __slots__ = ("stream", "end_sample", "probability", "inference_s")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    END_SAMPLE_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    INFERENCE_S_FIELD_NUMBER: _ClassVar[int]
    stream: int
    end_sample: int
    probability: float
    inference_s: float
    def __init__(self, stream: _Optional[int] = ..., end_sample: _Optional[int] = ..., probability: _Optional[float] = ..., inference_s: _Optional[float] = ...) -> None: ...

class SpeechEdge(_message.Message):
    __slots__ = ("stream", "speaking", "at_s")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    SPEAKING_FIELD_NUMBER: _ClassVar[int]
    AT_S_FIELD_NUMBER: _ClassVar[int]
    stream: int
    speaking: bool
    at_s: float
    def __init__(self, stream: _Optional[int] = ..., speaking: _Optional[bool] = ..., at_s: _Optional[float] = ...) -> None: ...

class Transcript(_message.Message):
    __slots__ = ("stream", "final", "text", "start_s", "end_s", "confidence", "language", "words")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    FINAL_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    START_S_FIELD_NUMBER: _ClassVar[int]
    END_S_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    WORDS_FIELD_NUMBER: _ClassVar[int]
    stream: int
    final: bool
    text: str
    start_s: float
    end_s: float
    confidence: float
    language: str
    words: _containers.RepeatedCompositeFieldContainer[Word]
    def __init__(self, stream: _Optional[int] = ..., final: _Optional[bool] = ..., text: _Optional[str] = ..., start_s: _Optional[float] = ..., end_s: _Optional[float] = ..., confidence: _Optional[float] = ..., language: _Optional[str] = ..., words: _Optional[_Iterable[_Union[Word, _Mapping]]] = ...) -> None: ...

class Word(_message.Message):
    __slots__ = ("text", "start_s", "end_s", "confidence")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    START_S_FIELD_NUMBER: _ClassVar[int]
    END_S_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    text: str
    start_s: float
    end_s: float
    confidence: float
    def __init__(self, text: _Optional[str] = ..., start_s: _Optional[float] = ..., end_s: _Optional[float] = ..., confidence: _Optional[float] = ...) -> None: ...

class Turn(_message.Message):
    __slots__ = ("stream", "probability", "at_s", "inference_s")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    AT_S_FIELD_NUMBER: _ClassVar[int]
    INFERENCE_S_FIELD_NUMBER: _ClassVar[int]
    stream: int
    probability: float
    at_s: float
    inference_s: float
    def __init__(self, stream: _Optional[int] = ..., probability: _Optional[float] = ..., at_s: _Optional[float] = ..., inference_s: _Optional[float] = ...) -> None: ...

class Speech(_message.Message):
    __slots__ = ("stream", "first_sample", "rate", "pcm")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    FIRST_SAMPLE_FIELD_NUMBER: _ClassVar[int]
    RATE_FIELD_NUMBER: _ClassVar[int]
    PCM_FIELD_NUMBER: _ClassVar[int]
    stream: int
    first_sample: int
    rate: int
    pcm: bytes
    def __init__(self, stream: _Optional[int] = ..., first_sample: _Optional[int] = ..., rate: _Optional[int] = ..., pcm: _Optional[bytes] = ...) -> None: ...

class Flushed(_message.Message):
    __slots__ = ("stream", "count")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    stream: int
    count: int
    def __init__(self, stream: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class Finished(_message.Message):
    __slots__ = ("stream",)
    STREAM_FIELD_NUMBER: _ClassVar[int]
    stream: int
    def __init__(self, stream: _Optional[int] = ...) -> None: ...

class Load(_message.Message):
    __slots__ = ("streams", "max_streams", "queue_s")
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    MAX_STREAMS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_S_FIELD_NUMBER: _ClassVar[int]
    streams: int
    max_streams: int
    queue_s: float
    def __init__(self, streams: _Optional[int] = ..., max_streams: _Optional[int] = ..., queue_s: _Optional[float] = ...) -> None: ...

class Failed(_message.Message):
    __slots__ = ("stream", "code", "message", "retryable")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RETRYABLE_FIELD_NUMBER: _ClassVar[int]
    stream: int
    code: str
    message: str
    retryable: bool
    def __init__(self, stream: _Optional[int] = ..., code: _Optional[str] = ..., message: _Optional[str] = ..., retryable: _Optional[bool] = ...) -> None: ...
