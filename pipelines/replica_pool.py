"""The replicas that a session host knows: their connections, their health, and who comes back."""

import asyncio
import contextvars
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from voxray.base.errors import PeerFailedError
from voxray.base.ids import ReplicaId
from voxray.base.lifecycle import TaskOwner
from voxray.base.timing import Backoff, Clock
from voxray.pipelines.routing import Replica, ReplicaView, may_offer
from voxray.pipelines.stream_client import ConnectionSettings, ReplicaConnection

_REST = Backoff(first_s=0.2, limit_s=1.0)
# A replica that failed is left alone for so long.
_REVIVAL = Backoff(first_s=0.5, limit_s=10.0)
# One that failed is tried in the background, so that no call waits for one that still hangs.
_WARM = 2
# Connections that are held for each engine: one that serves and one to go to at once.


@dataclass(kw_only=True)
class _Health:
    failures: int = 0
    rests_until_s: float = 0.0


class ReplicaPool:
    """Connections to the replicas that the fleet announces. Everything runs on one event loop."""

    def __init__(
        self,
        settings: ConnectionSettings,
        *,
        clock: Clock,
        rng: random.Random,
        on_change: Callable[[], None],
    ) -> None:
        """Prepare; connections are made when they are needed.

        Args:
            settings: how to connect.
            clock: tells the time.
            rng: spreads retries in time.
            on_change: called when a search that found nothing may find something now.
        """
        self._settings = settings
        self._clock = clock
        self._rng = rng
        self._on_change = on_change
        self._replicas: dict[ReplicaId, Replica] = {}
        self._health: dict[ReplicaId, _Health] = {}
        self._connections: dict[ReplicaId, ReplicaConnection] = {}
        # Lost and withdrawn ones included, until they are closed.
        self._unclosed: set[ReplicaConnection] = set()
        self._reviving: set[ReplicaId] = set()
        self._tasks = TaskOwner(f"replica-pool-{settings.host_id}")
        # Connections are shared: made in this context, not in that of the call that needs one.
        self._context = contextvars.copy_context()
        self._closed = False

    def set(self, replicas: tuple[Replica, ...]) -> tuple[ReplicaConnection, ...]:
        """Take the replicas that there are now; return the connections that are to be left.

        A replica that is no longer among them still serves what it has: its streams move when
        another one has taken them. One that is at a new address is another process, and its
        streams are told at once. Only an empty list leaves nothing: it may just mean that the
        fleet starts anew.
        """
        self._replicas = {replica.replica_id: replica for replica in replicas}
        self._health = {key: self._health.get(key, _Health()) for key in self._replicas}
        left = []
        for replica_id, connection in list(self._connections.items()):
            known = self._replicas.get(replica_id)
            if known is None and replicas:
                del self._connections[replica_id]
                left.append(connection)
            elif known is not None and known.address != connection.replica.address:
                connection.fail(f"replica {replica_id} was replaced")
                self._health[replica_id] = _Health()  # It failed at its old address only.
        return tuple(left)

    def views(self) -> tuple[ReplicaView, ...]:
        """Return what is known of all replicas."""
        views = []
        for replica_id, replica in self._replicas.items():
            connection, health = self._connections.get(replica_id), self._health[replica_id]
            views.append(
                ReplicaView(
                    replica=replica,
                    streams=0 if connection is None else connection.streams,
                    load=None if connection is None else connection.load,
                    failures=health.failures,
                    offers=None if connection is None else connection.offers,
                    rests_until_s=health.rests_until_s,
                )
            )
        return tuple(views)

    async def connected(self, replica: Replica) -> ReplicaConnection:
        """Return the connection to a replica once it has said what it is.

        Raises:
            PeerFailedError: it can't be reached.
        """
        connection = self._connect(replica)
        await connection.ready()
        if replica.replica_id in self._health:
            self._health[replica.replica_id] = _Health()
        return connection

    def keep_warm(self, engine: str) -> None:
        """See to it that there is a second connection for an engine, if there is a replica."""
        views = [view for view in self.views() if may_offer(view, engine) and not view.failures]
        cold = [view for view in views if view.replica.replica_id not in self._connections]
        if cold and len(views) - len(cold) < _WARM:
            self._connect(self._rng.choice(cold).replica)

    def close_when_empty(self, connection: ReplicaConnection) -> bool:
        """Close a connection that is left and carries nothing any more; return whether it does."""
        replica_id = connection.replica.replica_id
        if connection.streams or self._connections.get(replica_id) is connection:
            return False
        connection.fail(f"replica {replica_id} was withdrawn and has no stream of ours")
        return True

    async def aclose(self) -> None:
        """Close all connections. Idempotent."""
        self._closed = True
        await self._tasks.aclose()
        for connection in list(self._unclosed):
            await self._close(connection)

    def _connect(self, replica: Replica) -> ReplicaConnection:
        connection = self._connections.get(replica.replica_id)
        if connection is None:
            make = partial(
                ReplicaConnection,
                replica,
                self._settings,
                on_lost=self._lost,
                on_silent=self._silent,
            )
            connection = self._context.run(make)
            self._connections[replica.replica_id] = connection
            self._unclosed.add(connection)
            connection.start()
        return connection

    def _lost(self, connection: ReplicaConnection) -> None:
        replica_id = connection.replica.replica_id
        if self._connections.get(replica_id) is connection:
            del self._connections[replica_id]
            self._failed(replica_id)
        if not self._closed:
            self._tasks.spawn(f"close-{replica_id}", self._close(connection))

    def _failed(self, replica_id: ReplicaId) -> None:
        health = self._health.get(replica_id)
        if health is None or self._closed:
            return
        health.failures += 1
        health.rests_until_s = self._clock.monotonic() + _REST.delay_s(health.failures, self._rng)
        if replica_id not in self._reviving:
            self._reviving.add(replica_id)
            self._tasks.spawn(f"revive-{replica_id}", self._revive(replica_id))

    def _silent(self, connection: ReplicaConnection, seconds: float) -> None:
        """Give up a replica that hangs, where another one can take its streams.

        Where there is none, nothing is gained: it may only be slow, and gRPC's own pings tell
        when it is gone.
        """
        ours = connection.replica
        others = (view for view in self.views() if view.replica.replica_id != ours.replica_id)
        if any(
            not view.failures and any(may_offer(view, engine) for engine in ours.engines)
            for view in others
        ):
            connection.fail(f"replica {ours.replica_id} said nothing for {seconds:.1f} s: it hangs")

    async def _revive(self, replica_id: ReplicaId) -> None:
        """Try a replica that failed until it answers or is withdrawn."""
        try:
            attempt = 0
            while (replica := self._replicas.get(replica_id)) is not None:
                if not self._health[replica_id].failures:
                    break
                attempt += 1
                await asyncio.sleep(_REVIVAL.delay_s(attempt, self._rng))
                if self._replicas.get(replica_id) is not replica:
                    continue
                try:
                    await self.connected(replica)
                except PeerFailedError:
                    continue
                self._on_change()
        finally:
            self._reviving.discard(replica_id)

    async def _close(self, connection: ReplicaConnection) -> None:
        await connection.aclose()
        self._unclosed.discard(connection)
