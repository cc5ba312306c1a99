"""The calls that wait for an agent, in the order of their waiting, and what we know of the others.

A call (`CallKey`) gets one agent. It waits from the moment an offer for it was refused, or from
when LiveKit's record shows a caller without one, until its job is placed. While calls wait, a slot
that becomes free is theirs: a new offer gets one only beyond what they need.
"""

from bisect import bisect_left, insort
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from typing import TypeVar

from voxray.base.ids import JobId
from voxray.dispatcher.due import DueTimes
from voxray.dispatcher.jobs import Job
from voxray.dispatcher.origins import CallKey, JobOrigin
from voxray.dispatcher.waiting_call import CallEnd, Step, WaitingCall
from voxray.observability.room_events import RoomFound, RoomGivenUp, RoomServed

REMEMBERED = 10_000
"""Calls and jobs of each kind whose fate is remembered; the oldest are forgotten first."""
MAX_FAULTS = 3
"""Attempts at a call that the program's `request_fnc` fails before it is left alone."""
PROMPT_TRIES = 3
"""Attempts in vain after which a call lets others go first for a while."""
K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")

_RETRY_FIRST_S = 0.5
_RETRY_LIMIT_S = 30.0


class WaitingLine:
    """The line, and the fates of calls and jobs that decide who may join it.

    Args of most methods: `now` monotonic seconds, `wall` Unix seconds.
    """

    def __init__(self) -> None:
        self.enabled = False
        """Whether calls wait here; a dispatcher that does not search for rooms only keeps book."""
        self.maker = ""
        """The mark of the stand-ins that this process makes."""
        self.tenant_room: Callable[[str], int | None] = lambda _: None
        """How many slots a tenant may take beyond those it has; None for any number."""
        self._calls: dict[CallKey, WaitingCall] = {}
        self._order: list[tuple[float, CallKey]] = []
        self._by_room: dict[str, dict[CallKey, None]] = {}
        self._live: dict[CallKey, dict[JobId, Job]] = {}
        self._live_rooms: dict[str, dict[JobId, Job]] = {}
        self._over: OrderedDict[CallKey, None] = OrderedDict()
        self._faults: OrderedDict[CallKey, int] = OrderedDict()
        self._void: OrderedDict[JobId, None] = OrderedDict()
        self._done: OrderedDict[JobId, None] = OrderedDict()
        self._discarded: OrderedDict[str, None] = OrderedDict()
        self._news: list[RoomFound | RoomGivenUp | RoomServed] = []
        self.due: DueTimes[CallKey] = DueTimes()
        """When the step of a call, or the pause before its next attempt, is over."""

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[WaitingCall]:
        """Yield the calls in the order of their waiting."""
        for _, key in tuple(self._order):
            if (call := self._calls.get(key)) is not None:
                yield call

    def get(self, key: CallKey) -> WaitingCall | None:
        """Return a call of the line."""
        return self._calls.get(key)

    def in_room(self, room: str) -> tuple[WaitingCall, ...]:
        """Return the calls of a room that wait."""
        return tuple(self._calls[key] for key in self._by_room.get(room, ()))

    def live_in(self, room: str) -> tuple[Job, ...]:
        """Return our live jobs in a room."""
        return tuple(self._live_rooms.get(room, {}).values())

    def simulated_in(self, room: str) -> bool:
        """Return whether a simulated job of ours, which is for no call, is a room's agent."""
        return any(job.simulated for job in self._live_rooms.get(room, {}).values())

    def rooms(self) -> int:
        """Return in how many rooms calls wait."""
        return len(self._by_room)

    def is_live(self, key: CallKey) -> bool:
        """Return whether a job of ours is for this call."""
        return key in self._live

    def is_over(self, key: CallKey) -> bool:
        """Return whether a call is to be left alone."""
        return key in self._over

    def is_void(self, job_id: JobId) -> bool:
        """Return whether a job ended without having been anybody's agent."""
        return job_id in self._void

    def is_done(self, job_id: JobId) -> bool:
        """Return whether a host told the end of a job that we never held."""
        return job_id in self._done

    def take_news(self) -> list[RoomFound | RoomGivenUp | RoomServed]:
        """Hand out the events since the last time."""
        news, self._news = self._news, []
        return news

    # Slots.

    def wanted(self, origin: JobOrigin, room: str) -> bool:
        """Return whether a job offered in a room would be the one agent of its call."""
        key = origin.key
        if key is None:
            return True
        if not origin.meant or origin.dispatch_id in self._discarded or key in self._over:
            return False
        if self.enabled and origin.stand_in is not None and origin.stand_in.maker != self.maker:
            # Of the process before us, which may have given it up: it would be ended again.
            return False
        others = self._live.get(key, {}).values()
        if origin.stand_in is not None:
            return not others and not self.simulated_in(room)
        return not any(job.origin.stand_in is not None for job in others)

    def admits(self, key: CallKey | None, tenant: str, free: int, now: float) -> bool:
        """Return whether an offer may have one of the free slots, its place in the line given.

        Of a tenant's last slots, too, those who wait longest have the first.
        """
        if not self._calls:
            return True
        own = self._calls.get(key) if key is not None else None
        place = (own.since, own.key) if own is not None else None
        left = self.tenant_room(tenant)
        for ahead, call in enumerate(self.claimants(now)):
            if place is not None and place <= (call.since, call.key):
                return True
            if left is not None and call.tenant == tenant:
                left -= 1
            if ahead + 1 >= free or left == 0:
                return False
        return True

    def claimants(self, now: float) -> Iterator[WaitingCall]:
        """Yield the calls that a slot is to be kept for, in order.

        A tenant at its limit holds nobody else up: its calls claim no more than it may have.
        """
        given: Counter[str] = Counter()
        for call in self:
            if not call.claims(now):
                continue
            left = self.tenant_room(call.tenant)
            if left is None or given[call.tenant] < left:
                given[call.tenant] += 1
                yield call

    def claims(self, now: float) -> int:
        """Return how many slots the line would take."""
        return sum(1 for _ in self.claimants(now)) if self._calls else 0

    # What happens to jobs.

    def opened(self, job: Job, *, wanted: bool = True) -> None:
        """A job of ours exists; one that is not wanted changes nothing for its call."""
        self._live_rooms.setdefault(job.room, {})[job.job_id] = job
        if (key := job.origin.key) is None:
            return
        self._live.setdefault(key, {})[job.job_id] = job
        if wanted and (call := self._calls.get(key)) is not None:
            call.step, call.job_id = Step.PLACING, job.job_id

    def launched(self, job: Job, wall: float) -> None:
        """A job was given to a host: its call waits no more."""
        key = job.origin.key
        call = self._calls.get(key) if key is not None else None
        if call is not None:
            self.leave(call)
            self._news.append(
                RoomServed(job_id=job.job_id, room=call.room, seconds=max(0.0, wall - call.since))
            )

    def ended(self, job: Job, end: CallEnd, now: float, wall: float) -> None:
        """A job is over."""
        _drop(self._live_rooms, job.room, job.job_id)
        if (key := job.origin.key) is None:
            return
        _drop(self._live, key, job.job_id)
        if end is CallEnd.ASIDE or (end is not CallEnd.OVER and job.answered):
            _remember(self._void, job.job_id)
        call = self._calls.get(key)
        if end is CallEnd.OVER:
            _remember(self._over, key)
            if call is not None:
                self.give_up(call, "rejected")
        elif call is not None and call.job_id != job.job_id:
            # It was never this job that the call waited for.
            return
        elif key in self._live:
            # Another job is for this call.
            if call is not None:
                call.job_id = next(iter(self._live[key]))
        elif end is CallEnd.ASIDE:
            if call is not None:
                self.give_up(call, "elsewhere")
        elif self.enabled:
            since = job.received_at if not job.generation else wall
            self._unserved(job, key, since=since, fault=end is CallEnd.FAULT, now=now)

    def refused(self, job_id: JobId) -> None:
        """A job was refused by the dispatcher before us, beside another one of its call."""
        _remember(self._void, job_id)

    def told_end(self, job_id: JobId) -> None:
        """A host told the end of a job that we do not hold."""
        _remember(self._done, job_id)

    # Who waits.

    def join(self, call: WaitingCall, how: str) -> None:
        """Put a call in the line."""
        self._calls[call.key] = call
        insort(self._order, (call.since, call.key))
        self._by_room.setdefault(call.room, {})[call.key] = None
        self._news.append(RoomFound(room=call.room, how=how))

    def leave(self, call: WaitingCall) -> None:
        """Take a call out of the line."""
        del self._calls[call.key]
        del self._order[bisect_left(self._order, (call.since, call.key))]
        _drop(self._by_room, call.room, call.key)
        self.due.drop(call.key)

    def give_up(self, call: WaitingCall, reason: str) -> None:
        """Take a call out of the line that nobody needs to serve any more."""
        self.leave(call)
        self._news.append(RoomGivenUp(room=call.room, reason=reason))

    def wait_from(self, call: WaitingCall, since: float) -> None:
        """Correct when a call's wait began."""
        if since != call.since:
            del self._order[bisect_left(self._order, (call.since, call.key))]
            call.since = since
            insort(self._order, (call.since, call.key))

    def again(self, call: WaitingCall, now: float) -> None:
        """An attempt at a call came to nothing: it keeps its place and tries again later."""
        call.step = Step.WAITING
        call.job_id = None
        call.dispatch_id = ""
        call.queued_at = now
        call.tries += 1
        extra = call.tries - PROMPT_TRIES
        # Its first attempts keep the slot: nobody behind it is to overtake it by the server's slip.
        pause_s = 0.0 if extra <= 0 else _RETRY_FIRST_S * 2.0 ** min(extra - 1, 10)
        call.retry_at = now + min(_RETRY_LIMIT_S, pause_s)
        self.due.set(call.key, call.retry_at)

    def is_discarded(self, dispatch_id: str) -> bool:
        """Return whether a stand-in was given up."""
        return dispatch_id in self._discarded

    def discard(self, dispatch_id: str) -> None:
        """A stand-in was given up: a late offer of it is not wanted."""
        _remember(self._discarded, dispatch_id)

    def _unserved(self, job: Job, key: CallKey, *, since: float, fault: bool, now: float) -> None:
        call = self._calls.get(key)
        if call is not None:
            if call.dispatch_id:
                self.discard(call.dispatch_id)
            self.again(call, now)
        else:
            call = WaitingCall(
                key=key,
                room=job.room,
                room_sid=job.origin.room_sid,
                tenant=job.tenant,
                since=since,
                queued_at=now,
            )
            self.join(call, "refused")
        if fault:
            self._faults[key] = self._faults.pop(key, 0) + 1
            if self._faults[key] >= MAX_FAULTS:
                _remember(self._over, key)
                self.give_up(call, "rejected")
            while len(self._faults) > REMEMBERED:
                self._faults.popitem(last=False)


def _remember(memory: OrderedDict[K, None], key: K) -> None:
    memory[key] = None
    while len(memory) > REMEMBERED:
        memory.popitem(last=False)


def _drop(table: dict[K, dict[V, T]], key: K, inner: V) -> None:
    if (inside := table.get(key)) is not None:
        inside.pop(inner, None)
        if not inside:
            del table[key]
