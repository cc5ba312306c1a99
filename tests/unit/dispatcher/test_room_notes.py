from voxray.dispatcher.room_notes import (
    COUNT_LAG_S,
    DEAF_S,
    LIVE_S,
    QUIET_LIMIT_S,
    RoomNotes,
    TokenBucket,
)
from voxray.dispatcher.room_views import RoomListing


def listed(notes, now, *, participants=1, sid="RM_1", live=False, deaf=False, waits=False):
    listing = RoomListing(name="r", sid=sid, participants=participants)
    notes.listed(listing, now, live=live, deaf=deaf, waits=waits)


def viewed(notes, now, *, soon=None, deaf=False):
    notes.viewed(notes.get("r"), now, soon=soon, deaf=deaf)


def test_a_new_room_is_looked_at_at_once():
    notes = RoomNotes(3.0)
    listed(notes, 10.0)
    assert [note.name for note in notes.pop_due(10.0)] == ["r"]


def test_a_room_that_needs_nothing_is_looked_at_less_and_less_often():
    notes = RoomNotes(3.0)
    listed(notes, 0.0)
    pauses = []
    for _ in range(5):
        viewed(notes, 0.0)
        pauses.append(notes.due.next())
        listed(notes, 0.0)
        assert notes.due.next() == pauses[-1], "a list alone brings no look forward"
    assert pauses == [3.0, 6.0, 12.0, QUIET_LIMIT_S, QUIET_LIMIT_S]
    notes.look_anew()
    listed(notes, 1.0)
    assert notes.due.next() == 1.0


def test_a_room_without_anybody_is_not_looked_at_once_its_number_is_sure():
    notes = RoomNotes(3.0)
    listed(notes, 0.0, participants=0)
    assert notes.due.next() == 0.0, "LiveKit counts late"
    listed(notes, COUNT_LAG_S, participants=0)
    assert notes.due.next() is None
    listed(notes, COUNT_LAG_S + 3.0, participants=1)
    assert notes.due.next() == COUNT_LAG_S + 3.0


def test_a_room_with_a_job_of_ours_is_looked_at_seldom():
    notes = RoomNotes(3.0)
    listed(notes, 0.0, live=True)
    assert notes.due.next() == LIVE_S
    viewed(notes, LIVE_S)
    assert notes.due.next() == 2 * LIVE_S
    viewed(notes, LIVE_S, deaf=True)
    assert notes.due.next() == LIVE_S + DEAF_S
    listed(notes, LIVE_S + 1.0)
    assert notes.due.next() == LIVE_S + 1.0, "its job is over"


def test_a_room_made_anew_is_another_room():
    notes = RoomNotes(3.0)
    listed(notes, 0.0)
    viewed(notes, 0.0)
    listed(notes, 1.0, sid="RM_2")
    assert notes.get("r").sid == "RM_2"
    assert notes.due.next() == 1.0


def test_rooms_that_are_not_listed_are_forgotten_unless_they_are_younger_than_the_list():
    notes = RoomNotes(3.0)
    listed(notes, 0.0)
    notes.note("young", "RM_9", 5.0)
    notes.forget_others({"other"}, since=4.0)
    assert notes.get("r") is None
    assert notes.get("young") is not None
    assert notes.due.next() is None


def test_a_bucket_gives_a_burst_and_then_its_rate():
    bucket = TokenBucket(4.0, now=100.0)
    assert [bucket.take(100.0) for _ in range(5)] == [True] * 4 + [False]
    assert bucket.starved
    assert bucket.next_at() == 100.25
    assert bucket.take(bucket.next_at())
    assert not bucket.take(100.3)
    assert [bucket.take(200.0) for _ in range(5)] == [True] * 4 + [False], "it does not overflow"
