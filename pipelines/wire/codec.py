"""The inference contract between bytes and plain types; checks everything that comes in.

Bytes that are no batch raise `ProtocolError`. A client's message that parses but says nonsense
becomes `Malformed`, so that only its own stream has to end. What a newer peer may say and we do
not know is passed over, as the contract asks.
"""

import json
from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message

from voxray.base.errors import ProtocolError
from voxray.pipelines.audio import BYTES_PER_SAMPLE, check_rate
from voxray.pipelines.wire import inference_pb2 as pb
from voxray.pipelines.wire import messages as m
from voxray.pipelines.wire import results
from voxray.pipelines.wire.checks import check_finite, check_length, check_pcm, check_size, parse
from voxray.pipelines.wire.descriptions import decode_description as decode_description  # noqa: PLC0414
from voxray.pipelines.wire.descriptions import encode_describe_request as encode_describe_request  # noqa: PLC0414
from voxray.pipelines.wire.descriptions import encode_description as encode_description  # noqa: PLC0414
from voxray.pipelines.wire.descriptions import engine_info, engine_message
from voxray.pipelines.wire.json_options import read_json_options

SERVICE = pb.DESCRIPTOR.services_by_name["Inference"].full_name
"""The service's name in gRPC paths."""
CONNECT = "Connect"
DESCRIBE = "Describe"


def encode_client_batch(batch: m.ClientBatch) -> bytes:
    """Return the bytes of a batch.

    Raises:
        ValueError: it holds a `Malformed`, or a number that its field can't hold.
    """
    raw = pb.ClientBatch(version=batch.version, host=batch.host)
    for message in batch.messages:
        match message:
            case m.Audio(source=source, sequence=sequence, rate=rate, pcm=pcm):
                audio = raw.messages.add().audio
                audio.source, audio.sequence, audio.rate, audio.pcm = source, sequence, rate, pcm
            case m.AudioAgain():
                _add_again(raw.messages.add().audio_again, message)
            case m.Open(stream=stream, engine=engine, source=source):
                raw.messages.add().open.MergeFrom(
                    pb.Open(
                        stream=stream,
                        engine=engine,
                        source=source,
                        options=json.dumps(dict(message.options)),
                        traceparent=message.traceparent,
                    )
                )
            case m.Text(stream=stream, text=text):
                raw.messages.add(text=pb.Text(stream=stream, text=text))
            case m.Flush(stream=stream, discard=discard):
                raw.messages.add(flush=pb.Flush(stream=stream, discard=discard))
            case m.EndInput(stream=stream):
                raw.messages.add(end_input=pb.EndInput(stream=stream))
            case m.Close(stream=stream):
                raw.messages.add(close=pb.Close(stream=stream))
            case m.CloseSource(source=source):
                raw.messages.add(close_source=pb.CloseSource(source=source))
            case m.Credit(stream=stream, bytes=count):
                raw.messages.add(credit=pb.Credit(stream=stream, bytes=count))
            case m.Malformed(error=error):
                raise ValueError(f"a malformed message can't be sent: {error}")
    return raw.SerializeToString()


def decode_client_batch(data: bytes) -> m.ClientBatch:
    """Read what a host sent.

    Raises:
        ProtocolError: the bytes are no batch, it has more messages than are taken at once, or one
            names neither stream nor source.
    """
    raw = pb.ClientBatch()
    parse(raw, data)
    if len(raw.messages) > m.MAX_BATCH_MESSAGES:
        raise ProtocolError(
            f"got {len(raw.messages)} messages in one batch: {m.MAX_BATCH_MESSAGES} are the limit"
        )
    messages: list[m.ClientMessage | m.Malformed] = []
    for entry in raw.messages:
        kind = _kind(entry)
        if kind is None:
            continue
        body = getattr(entry, kind)
        stream, source = getattr(body, "stream", 0), getattr(body, "source", 0)
        if not stream and not source:
            raise ProtocolError(f"got a message {kind} for no stream and no source")
        try:
            messages.append(_CLIENT_READERS[kind](body))
        except ProtocolError as error:
            messages.append(m.Malformed(stream, source, error))
    check_length("host", raw.host, m.MAX_NAME_BYTES)
    return m.ClientBatch(tuple(messages), raw.version, raw.host)


def encode_server_batch(batch: m.ServerBatch) -> bytes:
    """Return the bytes of a batch.

    Raises:
        ValueError: a number does not fit its field.
    """
    raw = pb.ServerBatch(version=batch.version)
    for message in batch.messages:
        match message:
            case m.Acknowledged(source=source, sequence=sequence, window=window):
                raw.messages.add(
                    acknowledged=pb.Acknowledged(source=source, sequence=sequence, window=window)
                )
            case m.Result():
                results.add_result(raw.messages.add(), message)
            case m.Speech(stream=stream, first_sample=first, rate=rate, pcm=pcm):
                raw.messages.add(
                    speech=pb.Speech(stream=stream, first_sample=first, rate=rate, pcm=pcm)
                )
            case m.Opened(stream=stream, engine=engine):
                raw.messages.add(opened=pb.Opened(stream=stream, engine=engine_message(engine)))
            case m.Flushed(stream=stream, count=count):
                raw.messages.add(flushed=pb.Flushed(stream=stream, count=count))
            case m.Finished(stream=stream):
                raw.messages.add(finished=pb.Finished(stream=stream))
            case m.Failed(stream=stream, code=code, message=text, retryable=retryable):
                raw.messages.add(
                    failed=pb.Failed(stream=stream, code=code, message=text, retryable=retryable)
                )
            case m.Load(streams=streams, max_streams=limit, queue_s=queue_s):
                raw.messages.add(load=pb.Load(streams=streams, max_streams=limit, queue_s=queue_s))
    return raw.SerializeToString()


def decode_server_batch(data: bytes) -> m.ServerBatch:
    """Read what a replica sent.

    Raises:
        ProtocolError: the bytes are no batch, or a message says nonsense.
    """
    raw = pb.ServerBatch()
    parse(raw, data)
    kinds = ((entry, _kind(entry)) for entry in raw.messages)
    messages = tuple(_SERVER_READERS[kind](getattr(entry, kind)) for entry, kind in kinds if kind)
    return m.ServerBatch(messages, raw.version)


def _kind(entry: Message) -> str | None:
    kind: str | None = entry.WhichOneof("message")
    if kind is None and not entry.ByteSize():
        raise ProtocolError("got an empty message: one of its fields must be set")
    # Not empty and yet nothing we know: said by a newer peer, and none of our business.
    return kind


def _audio(body: pb.Audio) -> m.Audio:
    if not body.source or not body.sequence:
        raise ProtocolError(f"got audio {body.sequence} of source {body.source}: both start at 1")
    check_pcm(body.pcm)
    check_rate(body.rate)
    return m.Audio(body.source, body.sequence, body.rate, body.pcm)


def _audio_again(body: pb.AudioAgain) -> m.AudioAgain:
    numbers = (body.source, body.sequence, body.of_source, body.of_sequence)
    if not all(numbers):
        raise ProtocolError(f"got audio again with the numbers {numbers}: all start at 1")
    check_size(body.size)
    if body.offset % BYTES_PER_SAMPLE:
        raise ProtocolError(f"got audio from byte {body.offset}: 16-bit samples begin at even ones")
    return m.AudioAgain(*numbers, body.offset, body.size)


def _open(body: pb.Open) -> m.Open:
    if not body.stream:
        raise ProtocolError("got an open of stream 0: streams start at 1")
    if not body.engine:
        raise ProtocolError(f"got an open of stream {body.stream} without an engine")
    check_length("engine", body.engine, m.MAX_NAME_BYTES)
    check_length("traceparent", body.traceparent, m.MAX_NAME_BYTES)
    check_length("options", body.options, m.MAX_OPTIONS_BYTES)
    options = read_json_options(body.options)
    return m.Open(body.stream, body.engine, body.source, options, body.traceparent)


def _text(body: pb.Text) -> m.Text:
    check_length("text", body.text, m.MAX_TEXT_BYTES)
    return m.Text(body.stream, body.text)


def _speech(body: pb.Speech) -> m.Speech:
    check_pcm(body.pcm)
    check_rate(body.rate)
    return m.Speech(body.stream, body.first_sample, body.rate, body.pcm)


def _add_again(entry: pb.AudioAgain, message: m.AudioAgain) -> None:
    entry.source, entry.sequence = message.source, message.sequence
    entry.of_source, entry.of_sequence = message.of_source, message.of_sequence
    entry.offset, entry.size = message.offset, message.size


def _load(body: pb.Load) -> m.Load:
    check_finite("load", body.queue_s)
    return m.Load(body.streams, body.max_streams, body.queue_s)


# One reader for each message that the contract knows; a test holds the tables to the contract.
_CLIENT_READERS: dict[str, Callable[[Any], m.ClientMessage]] = {
    "open": _open,
    "audio": _audio,
    "audio_again": _audio_again,
    "text": _text,
    "flush": lambda body: m.Flush(body.stream, body.discard),
    "end_input": lambda body: m.EndInput(body.stream),
    "close": lambda body: m.Close(body.stream),
    "close_source": lambda body: m.CloseSource(body.source),
    "credit": lambda body: m.Credit(body.stream, body.bytes),
}
_SERVER_READERS: dict[str, Callable[[Any], m.ServerMessage]] = {
    "opened": lambda body: m.Opened(body.stream, engine_info(body.engine)),
    "acknowledged": lambda body: m.Acknowledged(body.source, body.sequence, body.window),
    "probability": results.probability,
    "speech_edge": results.speech_edge,
    "transcript": results.transcript,
    "turn": results.turn,
    "speech": _speech,
    "flushed": lambda body: m.Flushed(body.stream, body.count),
    "finished": lambda body: m.Finished(body.stream),
    "load": _load,
    "failed": lambda body: m.Failed(body.stream, body.code, body.message, body.retryable),
}
