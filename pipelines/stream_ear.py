"""Hears one attachment of a stream, and tells the stream only what still counts."""

from typing import Protocol

from voxray.pipelines.engines.base import EngineInfo
from voxray.pipelines.stream_client import Attachment, ReplicaConnection
from voxray.pipelines.wire import messages as m


class AttachedStream(Protocol):
    """What an ear needs of its stream; the methods are those of `StreamHandler`."""

    current: "Ear | None"
    coming: "Ear | None"

    def opened(self, info: EngineInfo) -> None:
        """The replica that was asked serves the stream."""
        ...

    def refused(self, failure: m.Failed | None) -> None:
        """The replica that was asked does not serve it."""
        ...

    def result(self, message: m.Result) -> None:
        """A result came."""
        ...

    def speech(self, message: m.Speech) -> None:
        """Speech came."""
        ...

    def flushed(self, count: int) -> None:
        """Flushes were worked through."""
        ...

    def taken_in(self, number: int) -> None:
        """Audio was taken in."""
        ...

    def over(self, failure: m.Failed | None) -> None:
        """The replica that serves the stream ended it."""
        ...


class Ear:
    """A `StreamHandler` for one attachment. What one that was left still says is passed over."""

    def __init__(self, stream: AttachedStream, needed: int) -> None:
        """Prepare for an attachment of a stream that needs its input from entry `needed` on."""
        self._stream = stream
        self.needed = needed
        self.attachment: Attachment | None = None

    @property
    def connection(self) -> ReplicaConnection | None:
        """Where the stream is attached."""
        return None if self.attachment is None else self.attachment.connection

    def detach(self) -> None:
        """Leave the replica. Idempotent."""
        attachment, self.attachment = self.attachment, None
        if attachment is not None:
            attachment.connection.detach(attachment)

    def opened(self, info: EngineInfo) -> None:
        """The stream is served."""
        if self._stream.coming is self:
            self._stream.opened(info)

    def result(self, message: m.Result) -> None:
        """A result came."""
        if self._stream.current is self:
            self._stream.result(message)

    def speech(self, message: m.Speech) -> None:
        """Speech came."""
        if self._stream.current is self:
            self._stream.speech(message)

    def flushed(self, count: int) -> None:
        """Flushes were worked through."""
        if self._stream.current is self:
            self._stream.flushed(count)

    def taken_in(self, number: int) -> None:
        """Audio was taken in."""
        if self._stream.current is self:
            self._stream.taken_in(number)

    def over(self, failure: m.Failed | None) -> None:
        """The stream is over there."""
        if self._stream.current is self:
            self._stream.over(failure)
        elif self._stream.coming is self:
            self._stream.refused(failure)
