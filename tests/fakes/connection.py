"""A connection to a replica that is only its uplink: the test plays the replica."""

from voxray.base.ids import HostId, ReplicaId
from voxray.pipelines.routing import Replica
from voxray.pipelines.stream_client import Attachment
from voxray.pipelines.uplink import Uplink
from voxray.pipelines.wire import messages as m


class FakeConnection:
    def __init__(self) -> None:
        self.uplink = Uplink(HostId("cafe0001"), lambda _urgent: None)
        self.granted = 0
        self.starts = []
        self.handler = None
        self.replica = Replica(
            replica_id=ReplicaId("speech-1"), group="speech", engines=(), address="a", node="n"
        )

    def attach(self, handler, log, key, opening, *, start, audio) -> Attachment:
        self.starts.append(start)
        self.handler = handler
        lane, member = self.uplink.join(log, key, opening, start=start, audio=audio)
        return Attachment(connection=self, lane=lane, member=member)

    def detach(self, attachment) -> None:
        self.uplink.leave(attachment.lane, attachment.member, tell=True)

    def grant(self, _attachment, count) -> None:
        self.granted += count

    def logged(self, log, size, *, urgent) -> None:
        self.uplink.ready(log, size, urgent=urgent)

    def sent(self, *kinds) -> list[m.ClientMessage]:
        """Everything that goes up now, of some kinds or all."""
        messages = []
        while (batch := self.uplink.take()) is not None:
            messages += batch.messages
        return [message for message in messages if not kinds or isinstance(message, kinds)]
