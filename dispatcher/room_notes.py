"""What the reconciler remembers of each room between two looks, and how often it looks."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from voxray.base.ids import JobId
from voxray.dispatcher.due import DueTimes
from voxray.dispatcher.origins import CallKey
from voxray.dispatcher.room_views import RoomListing
from voxray.dispatcher.verdicts import Need

COUNT_LAG_S = 10.0
"""A room listed without participants may have had some for 5 s; with room to spare."""
QUIET_LIMIT_S = 15.0
"""Longest pause between looks at a room that needs nothing: another app's, or one that had its
agent."""
DEAF_S = 10.0
"""Pause between looks at a room with a job whose termination would not reach us."""
LIVE_S = 60.0
"""Pause between looks at a room where a job of ours runs: a second dispatch may have none."""


@dataclass(kw_only=True)
class RoomNote:
    """One room. Times are monotonic.

    Attributes:
        asking: whether an answer to `ViewRoom` is awaited.
        viewed_at: when the look was asked for that `needs` came from.
        needs: calls without an agent, as that look showed.
        first_seen: when a call, or a stand-in, was first seen without a job, without a break.
        missed: jobs whose dispatch the last look did not show.
        quiet: looks in a row that showed nothing to do.
    """

    name: str
    sid: str
    since: float
    asking: bool = False
    asked_at: float = 0.0
    viewed_at: float | None = None
    needs: dict[CallKey, Need] = field(default_factory=dict)
    first_seen: dict[CallKey | str, float] = field(default_factory=dict)
    missed: set[JobId] = field(default_factory=set)
    quiet: int = 0
    live: bool = False


class RoomNotes:
    """The notes of all rooms, and when each is to be looked at."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._notes: dict[str, RoomNote] = {}
        self.due: DueTimes[str] = DueTimes()
        """Rooms by the monotonic time of their next look, or of giving up on an answer."""

    def get(self, room: str) -> RoomNote | None:
        """Return a room's note."""
        return self._notes.get(room)

    def note(self, room: str, sid: str, now: float) -> RoomNote:
        """Return a room's note, a new one if there is none of this very room."""
        note = self._notes.get(room)
        if note is None or (sid and note.sid != sid):
            note = self._notes[room] = RoomNote(name=room, sid=sid, since=now)
            self.due.drop(room)
        return note

    def drop(self, room: str) -> None:
        """Forget a room."""
        self._notes.pop(room, None)
        self.due.drop(room)

    def look_anew(self) -> None:
        """Forget how quiet the rooms were, and which answers were awaited."""
        for note in self._notes.values():
            note.quiet = 0
            note.asking = False
            self.due.drop(note.name)

    def listed(
        self, listing: RoomListing, now: float, *, live: bool, deaf: bool, waits: bool
    ) -> None:
        """Take a room of the list in: is it to be looked at, and when?"""
        note = self.note(listing.name, listing.sid, now)
        was_live, note.live = note.live, live
        empty = self.is_empty(listing, now)
        if note.asking:
            return
        if empty and not waits and not (live and deaf):
            self.due.drop(note.name)
            return
        due = self.due.get(note.name)
        if live:
            pause = DEAF_S if deaf else LIVE_S
            if due is None or not was_live or due > now + pause:
                self.due.set(note.name, now + pause)
        elif due is None or was_live:
            self.due.set(note.name, now)

    def is_empty(self, listing: RoomListing, now: float) -> bool:
        """Return whether a room of the list certainly has no caller."""
        note = self.note(listing.name, listing.sid, now)
        return listing.participants == 0 and now - note.since >= COUNT_LAG_S

    def viewed(self, note: RoomNote, now: float, *, soon: float | None, deaf: bool) -> None:
        """Plan the next look at a room after one."""
        if note.first_seen:
            note.quiet = 0
        else:
            note.quiet += 1
        if soon is not None:
            pause = max(0.0, soon - now)
        elif note.first_seen:
            pause = self._interval_s
        elif note.live:
            pause = DEAF_S if deaf else LIVE_S
        else:
            pause = min(QUIET_LIMIT_S, self._interval_s * 2.0 ** min(note.quiet - 1, 10))
        self.due.set(note.name, now + pause)

    def pop_due(self, now: float) -> Iterator[RoomNote]:
        """Take out the rooms that are due, one at a time."""
        for name in self.due.pop_due(now):
            note = self._notes.get(name)
            if note is not None:
                note.asking = False
                yield note

    def forget_others(self, names: set[str], since: float) -> None:
        """Forget the rooms that are not in the list that was asked for at `since`."""
        for name in [each for each in self._notes if each not in names]:
            if self._notes[name].since < since:
                self.drop(name)


class TokenBucket:
    """At most `rate` things a second, after a burst of as many."""

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._size = max(1.0, rate)
        self._tokens = self._size
        self._at = now
        self.starved = False
        """Whether a token was missing, since this was reset."""

    def take(self, now: float) -> bool:
        """Take a token; return whether there was one."""
        self._fill(now)
        # What is missing by a rounding error counts as there: a deadline must not come twice.
        if self._tokens < 1.0 - 1e-6:
            self.starved = True
            return False
        self._tokens -= 1.0
        return True

    def next_at(self) -> float:
        """Return when the next token is there."""
        return self._at + max(0.0, (1.0 - self._tokens) / self._rate)

    def _fill(self, now: float) -> None:
        if now > self._at:
            self._tokens = min(self._size, self._tokens + (now - self._at) * self._rate)
            self._at = now
