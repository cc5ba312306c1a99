"""LiveKit's worker protocol without I/O: bytes in, events out; messages in, bytes out.

`connection.py` owns the socket. It calls `connected` and `disconnected` as the socket comes and
goes, hands what it reads to `receive`, and writes what `take` gives it.

LiveKit forgets a worker with its connection: a new one starts with a registration, after which the
running jobs, what happened to jobs meanwhile, and our load are told again. Offers do not outlive
their connection, so neither do their answers.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeAlias, assert_never

from voxray.base.errors import InvalidTransitionError, ProtocolError
from voxray.base.ids import JobId
from voxray.dispatcher.messages import (
    AvailabilityRequest,
    AvailabilityResponse,
    JobAssignment,
    JobTermination,
    MigrateJobRequest,
    RegisterWorkerRequest,
    RegisterWorkerResponse,
    ServerMessage,
    UnknownMessage,
    UpdateJobStatus,
    UpdateWorkerStatus,
    WorkerMessage,
    WorkerPing,
    WorkerPong,
    decode,
    encode,
)

AGENT_NAME_ATTRIBUTE = "lk.agent.name"
"""Participant attribute with the agent's name (`ATTRIBUTE_AGENT_NAME` of livekit-agents)."""
OFFERS_LIMIT = 4096
"""Unanswered offers that are remembered. LiveKit gives one up after 3 s."""
JOB_UPDATES_LIMIT = 4096
"""Jobs whose newest update is kept while there is no connection."""
PINGS_LIMIT = 3
"""Unanswered pings after which a server that used to answer them counts as gone."""


class ProtocolState(StrEnum):
    """Where the connection to LiveKit is."""

    DISCONNECTED = "disconnected"
    REGISTERING = "registering"
    REGISTERED = "registered"
    CLOSED = "closed"


@dataclass(frozen=True, kw_only=True)
class Registered:
    """LiveKit took our registration; `reconnect` says whether it had taken one before."""

    worker_id: str
    server_version: str
    region: str
    reconnect: bool


@dataclass(frozen=True, kw_only=True)
class ProtocolCounters:
    """What was received that could not be used, and what was not sent.

    Attributes:
        malformed: messages that the protocol does not allow.
        unknown: messages that we have no use for.
        late_answers: answers to offers that are over (answered, or of an earlier connection).
        dropped_updates: job updates that the bound on kept ones cost.
    """

    malformed: int = 0
    unknown: int = 0
    late_answers: int = 0
    dropped_updates: int = 0


ProtocolEvent: TypeAlias = (
    Registered | AvailabilityRequest | JobAssignment | JobTermination | WorkerPong | UnknownMessage
)
Intent: TypeAlias = AvailabilityResponse | UpdateWorkerStatus | UpdateJobStatus | WorkerPing

_NEXT = {
    ProtocolState.DISCONNECTED: {ProtocolState.REGISTERING, ProtocolState.CLOSED},
    ProtocolState.REGISTERING: {
        ProtocolState.REGISTERED,
        ProtocolState.DISCONNECTED,
        ProtocolState.CLOSED,
    },
    ProtocolState.REGISTERED: {ProtocolState.DISCONNECTED, ProtocolState.CLOSED},
    ProtocolState.CLOSED: {ProtocolState.CLOSED},
}


class WorkerProtocol:
    """One worker's side of the protocol, over any number of connections."""

    def __init__(
        self,
        registration: RegisterWorkerRequest,
        active_jobs: Callable[[], Iterable[JobId]] = tuple,
    ) -> None:
        """Begin disconnected.

        Args:
            registration: sent first on every connection.
            active_jobs: the jobs that run here, asked after each registration.
        """
        self._registration = registration
        self._active_jobs = active_jobs
        self._state = ProtocolState.DISCONNECTED
        self._worker_id = ""
        self._counters = ProtocolCounters()
        self._offers: OrderedDict[JobId, None] = OrderedDict()
        # What is to be sent. Only the newest of each kind counts, so the size has a bound:
        # answers by the offers, job updates by `JOB_UPDATES_LIMIT`.
        self._greeting: list[WorkerMessage] = []
        self._answers: list[AvailabilityResponse] = []
        self._job_updates: OrderedDict[JobId, UpdateJobStatus] = OrderedDict()
        self._status: UpdateWorkerStatus | None = None
        self._status_due = False
        self._ping: WorkerPing | None = None
        self._unanswered_pings = 0
        self._answers_pings = False

    @property
    def state(self) -> ProtocolState:
        """Where the connection is."""
        return self._state

    @property
    def worker_id(self) -> str:
        """The id that LiveKit gave us last, or an empty string."""
        return self._worker_id

    @property
    def counters(self) -> ProtocolCounters:
        """What went wrong so far."""
        return self._counters

    @property
    def silent(self) -> bool:
        """Whether the server stopped answering our pings.

        One that never answered any on this connection may simply not know them.
        """
        return self._answers_pings and self._unanswered_pings >= PINGS_LIMIT

    @property
    def pending(self) -> bool:
        """Whether `take` would return something now."""
        if self._state is ProtocolState.REGISTERING:
            return bool(self._greeting)
        return self._state is ProtocolState.REGISTERED and bool(
            self._greeting
            or self._answers
            or self._job_updates
            or self._status_due
            or self._ping is not None
        )

    def connected(self) -> None:
        """A connection stands: register."""
        self._move(ProtocolState.REGISTERING)
        self._greeting = [self._registration]

    def disconnected(self) -> None:
        """The connection is gone, and with it every offer and answer. Keeps a closed state."""
        if self._state in {ProtocolState.REGISTERING, ProtocolState.REGISTERED}:
            self._move(ProtocolState.DISCONNECTED)
        self._forget_connection()

    def close(self) -> None:
        """End for good: nothing is sent or received any more. Idempotent."""
        self._move(ProtocolState.CLOSED)
        self._forget_connection()
        self._job_updates.clear()

    def send(self, intent: Intent) -> None:
        """Take a message for LiveKit.

        Answers are sent on the connection of their offer or never. Of job updates and of our own
        status the newest is kept until it can be sent.
        """
        match intent:
            case AvailabilityResponse(job_id=job_id):
                if job_id not in self._offers:
                    self._count(late_answers=1)
                    return
                del self._offers[job_id]
                self._answers.append(self._named(intent))
            case UpdateJobStatus(job_id=job_id):
                if self._state is ProtocolState.CLOSED:
                    return
                self._job_updates[job_id] = intent
                if len(self._job_updates) > JOB_UPDATES_LIMIT:
                    self._job_updates.popitem(last=False)
                    self._count(dropped_updates=1)
            case UpdateWorkerStatus():
                self._status, self._status_due = intent, True
            case WorkerPing():
                # Pings of a time without a connection would measure the outage.
                if self._state is ProtocolState.REGISTERED:
                    self._ping = intent
                    self._unanswered_pings += intent.counts
            case _ as never:
                assert_never(never)

    def repeat_status(self) -> None:
        """Send our newest status again, as stock workers do every few seconds."""
        self._status_due = self._status is not None

    def receive(self, data: bytes) -> tuple[ProtocolEvent, ...]:
        """Take the bytes of one message; return what they mean.

        Raises:
            ProtocolError: the bytes are no message, or not one that may come now. Nothing has
                changed but the count. Before the registration the connection is of no use then;
                after it, it goes on.
        """
        if self._state in {ProtocolState.DISCONNECTED, ProtocolState.CLOSED}:
            return ()  # What was under way when the connection ended.
        try:
            message = decode(data)
            if isinstance(message, RegisterWorkerResponse):
                return (self._register(message),)
            self._check_registered(message)
        except ProtocolError:
            self._count(malformed=1)
            raise
        match message:
            case AvailabilityRequest(job_id=job_id):
                self._offers[job_id] = None
                if len(self._offers) > OFFERS_LIMIT:
                    self._offers.popitem(last=False)
            case WorkerPong():
                self._unanswered_pings, self._answers_pings = 0, True
            case UnknownMessage():
                self._count(unknown=1)
            case JobAssignment() | JobTermination():
                pass
            case _ as never:
                assert_never(never)
        return (message,)

    def receive_text(self) -> None:
        """Refuse a text message: the protocol knows only bytes.

        Raises:
            ProtocolError: always.
        """
        self._count(malformed=1)
        raise ProtocolError("livekit sent a text message")

    def take(self) -> list[bytes]:
        """Return what is to be sent now, in order, and forget it."""
        if not self.pending:
            return []
        messages, self._greeting = self._greeting, []
        if self._state is ProtocolState.REGISTERED:
            # Answers first: LiveKit gives an offer up after 3 s.
            messages += [*self._answers, *self._job_updates.values()]
            self._answers.clear()
            self._job_updates.clear()
            if self._status_due and self._status is not None:
                messages.append(self._status)
            # Last: its pong says that the server has taken all of these.
            if self._ping is not None:
                messages.append(self._ping)
            self._status_due, self._ping = False, None
        return [encode(message) for message in messages]

    def _register(self, response: RegisterWorkerResponse) -> Registered:
        if self._state is ProtocolState.REGISTERED:
            raise ProtocolError(f"livekit registered worker {self._worker_id} twice")
        self._move(ProtocolState.REGISTERED)
        reconnect = bool(self._worker_id)
        self._worker_id = response.worker_id
        if job_ids := tuple(self._active_jobs()):
            self._greeting.append(MigrateJobRequest(job_ids=job_ids))
        self.repeat_status()
        return Registered(
            worker_id=response.worker_id,
            server_version=response.server_version,
            region=response.region,
            reconnect=reconnect,
        )

    def _check_registered(self, message: ServerMessage) -> None:
        if self._state is not ProtocolState.REGISTERED:
            raise ProtocolError(
                f"livekit sent {type(message).__name__} before it answered our registration"
            )

    def _named(self, answer: AvailabilityResponse) -> AvailabilityResponse:
        """Return the answer with the agent's name among its attributes, as LiveKit expects."""
        if not answer.available:
            return answer
        attributes = {AGENT_NAME_ATTRIBUTE: self._registration.agent_name, **answer.attributes}
        return replace(answer, attributes=attributes)

    def _forget_connection(self) -> None:
        self._offers.clear()
        self._answers.clear()
        self._greeting = []
        self._ping = None
        self._unanswered_pings, self._answers_pings = 0, False

    def _move(self, state: ProtocolState) -> None:
        if state not in _NEXT[self._state]:
            raise InvalidTransitionError(
                "worker-protocol", f"{self._state} can't become {state}", ()
            )
        self._state = state

    def _count(self, **more: int) -> None:
        counters = self._counters
        self._counters = replace(
            counters, **{name: getattr(counters, name) + by for name, by in more.items()}
        )
