"""Checks of what came over the wire; each raises `ProtocolError`."""

import math

from google.protobuf.message import DecodeError, Message

from voxray.base.errors import ProtocolError
from voxray.pipelines.audio import BYTES_PER_SAMPLE
from voxray.pipelines.wire import messages as m


def check_pcm(pcm: bytes) -> None:
    """Refuse audio that is empty, too much, or no whole samples."""
    check_size(len(pcm))


def check_size(size: int) -> None:
    """As `check_pcm`, for audio of so many bytes."""
    if size % BYTES_PER_SAMPLE:
        raise ProtocolError(f"got {size} bytes of PCM: 16-bit samples take an even number")
    if not 0 < size <= m.MAX_PCM_BYTES:
        raise ProtocolError(f"got {size} bytes of PCM: 1 to {m.MAX_PCM_BYTES} are taken at once")


def check_length(what: str, text: str, limit: int) -> None:
    """Refuse a text of more than `limit` bytes as UTF-8."""
    if len(text) > limit or len(text.encode()) > limit:
        raise ProtocolError(f"got {what} of {len(text)} characters: {limit} bytes are the limit")


def check_finite(what: str, *values: float) -> None:
    """Refuse NaN and infinities."""
    if not all(math.isfinite(value) for value in values):
        raise ProtocolError(f"got a {what} with a number that is not finite")


def parse(message: Message, data: bytes) -> None:
    """Read bytes into a message, or refuse them."""
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        name = message.DESCRIPTOR.name
        raise ProtocolError(f"got {len(data)} bytes that are no {name}") from error
