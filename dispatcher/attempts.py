"""A waiting call gets its dispatch, and the dispatch its offer, or else the next attempt."""

from voxray.dispatcher.commands import CreateDispatch, DeleteDispatch, ViewRoom
from voxray.dispatcher.inputs import DispatchCreated
from voxray.dispatcher.room_notes import RoomNote, RoomNotes, TokenBucket
from voxray.dispatcher.state import CoreState
from voxray.dispatcher.verdicts import Need
from voxray.dispatcher.waiting_call import Step, WaitingCall
from voxray.observability.room_events import DispatchMade

ANSWER_S = 5.0
"""How long LiveKit may take to answer one question."""
OFFER_S = 1.5
"""How long the offer of a fresh dispatch may take: LiveKit looks for a worker for 1 s, then gives
the job up (`DefaultAffinityTimeout` of its RPC); on loopback the offer came after 0.2 s."""
FRESH_S = 1.0
"""How old a look at a room may be for a dispatch to be created on it."""


class Attempts:
    """Serves those who wait. One attempt at a time for each call."""

    def __init__(self, state: CoreState, notes: RoomNotes, bucket: TokenBucket) -> None:
        self._state = state
        self._line = state.line
        self._notes = notes
        self._bucket = bucket

    def serve(self) -> None:
        """Begin as many attempts as there are slots, first come first served."""
        if not len(self._line):
            return
        now = self._state.now
        free = self._state.free_slots()
        for call in self._line.claimants(now):
            if free <= 0:
                return
            free -= 1
            if call.step is Step.WAITING and not self._attempt(call):
                return

    def look(self, note: RoomNote) -> None:
        """Look at a room."""
        now = self._state.now
        note.asked_at = now
        note.asking = True
        # If no answer comes by then, the room is looked at again.
        self._notes.due.set(note.name, now + ANSWER_S)
        self._state.send(ViewRoom(room=note.name, sid=note.sid))

    def created(self, item: DispatchCreated) -> None:
        """LiveKit answered the order for a dispatch."""
        outcome = "created" if item.dispatch_id else "failed"
        self._state.emit(DispatchMade(room=item.room, outcome=outcome, reason=item.reason))
        call = self._line.get(item.key)
        if call is None or call.step not in {Step.CREATING, Step.PLACING}:
            # Served meanwhile, or given up: a look at the room finds what was created for nothing.
            return
        call.dispatch_id = item.dispatch_id
        if call.step is Step.PLACING:
            return
        if item.dispatch_id:
            call.step = Step.EXPECTING
            self._line.due.set(call.key, self._state.now + OFFER_S)
        else:
            self._line.again(call, self._state.now)

    def expire(self) -> None:
        """End the steps that took too long."""
        for key in self._line.due.pop_due(self._state.now):
            if (call := self._line.get(key)) is not None:
                self._step_over(call)

    def delete(self, room: str, dispatch_id: str) -> None:
        """Give a stand-in up; LiveKit ends its job, should it still get one."""
        self._line.discard(dispatch_id)
        self._state.send(DeleteDispatch(room=room, dispatch_id=dispatch_id))

    def _attempt(self, call: WaitingCall) -> bool:
        """Look at the call's room, or create its dispatch; return whether there was a token."""
        now = self._state.now
        note = self._notes.note(call.room, call.room_sid, now)
        if note.asking:
            return True
        # What was seen before an attempt says nothing about the time after it.
        oldest = max(now - FRESH_S, call.queued_at if call.tries else 0.0)
        fresh = note.viewed_at is not None and note.viewed_at >= oldest
        need = note.needs.get(call.key)
        if fresh and (need is None or self._line.simulated_in(call.room)):
            return True
        if not self._bucket.take(now):
            return False
        if fresh and need is not None:
            self._create(call, need, note)
        else:
            self.look(note)
        return True

    def _create(self, call: WaitingCall, need: Need, note: RoomNote) -> None:
        call.step = Step.CREATING
        call.room_sid = note.sid
        self._line.due.set(call.key, self._state.now + ANSWER_S)
        self._state.send(
            CreateDispatch(
                key=call.key,
                room=call.room,
                room_sid=note.sid,
                like=need.like,
                maker=self._line.maker,
            )
        )

    def _step_over(self, call: WaitingCall) -> None:
        now = self._state.now
        if call.step is Step.CREATING:
            reason = "no answer of livekit's"
            self._state.emit(DispatchMade(room=call.room, outcome="failed", reason=reason))
            self._line.again(call, now)
        elif call.step is Step.EXPECTING:
            self._state.emit(DispatchMade(room=call.room, outcome="unanswered"))
            self.delete(call.room, call.dispatch_id)
            self._line.again(call, now)
