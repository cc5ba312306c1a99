import pytest

from voxray.base.errors import InvalidTransitionError
from voxray.base.ids import HostId, JobId
from voxray.dispatcher.capacity import SlotBook
from voxray.dispatcher.job_book import JobBook
from voxray.dispatcher.jobs import (
    STORY_LENGTH,
    TRANSITIONS,
    Assignment,
    Job,
    JobOutcome,
    JobState,
)

HOST = HostId("h1")


def job(job_id="AJ_1"):
    return Job(job_id=JobId(job_id), room="r", payload=b"", received_at=1.0, offered_at=1.0)


@pytest.fixture
def book():
    return JobBook()


def opened(book, job_id="AJ_1"):
    one = job(job_id)
    book.open(one, cause="offered", at=1.0)
    return one


def test_every_state_has_a_row_and_only_the_end_has_no_way_out():
    assert set(TRANSITIONS) == set(JobState)
    assert [state for state, to in TRANSITIONS.items() if not to] == [JobState.ENDED]
    reachable = {JobState.OFFERED}
    while more := {to for state in reachable for to in TRANSITIONS[state]} - reachable:
        reachable |= more
    assert reachable == set(JobState)


def test_a_story_has_time_states_cause_host_and_generation(book):
    slots = SlotBook()
    slots.add_host(HOST, 1)
    one = opened(book)
    book.seat(one, slots.reserve(HOST))
    book.move(one, JobState.RESERVED, cause="slot reserved", at=2.0)
    one.generation = 1
    book.move(one, JobState.STARTING, cause="assigned", at=3.0)
    last = book.story(one.job_id)[-1]
    assert (last.at, last.from_state, last.to_state) == (3.0, JobState.RESERVED, JobState.STARTING)
    assert (last.cause, last.host_id, last.generation) == ("assigned", HOST, 1)
    assert str(last) == "3.000 reserved->starting g1 host h1: assigned"


def test_an_illegal_transition_raises_with_the_story(book):
    one = opened(book)
    with pytest.raises(
        InvalidTransitionError, match="offered to running because of: magic"
    ) as info:
        book.move(one, JobState.RUNNING, cause="magic", at=2.0)
    assert info.value.subject == "AJ_1"
    assert info.value.story == ("1.000 -->offered g0: offered",)
    assert one.state is JobState.OFFERED


def test_a_job_ends_once_and_only_without_a_slot(book):
    slots = SlotBook()
    slots.add_host(HOST, 1)
    one = opened(book)
    book.seat(one, slots.reserve(HOST))
    with pytest.raises(InvalidTransitionError, match="holds a slot"):
        book.end(one, JobOutcome.REJECTED, cause="full", at=2.0)
    book.seat(one, None)
    book.end(one, JobOutcome.REJECTED, cause="full", at=2.0)
    assert book.get(one.job_id) is None
    assert len(book) == 0
    ended = book.ended(one.job_id)
    assert ended is not None
    assert ended.outcome is JobOutcome.REJECTED
    with pytest.raises(InvalidTransitionError):
        book.end(one, JobOutcome.REJECTED, cause="again", at=3.0)


def test_stories_and_the_ring_of_ended_jobs_are_bounded():
    book = JobBook(ended_kept=2)
    for number in range(3):
        one = opened(book, f"AJ_{number}")
        for remark in range(STORY_LENGTH + 5):
            book.note(one, f"remark {remark}", 2.0)
        book.end(one, JobOutcome.REJECTED, cause="full", at=3.0)
    assert book.story(JobId("AJ_0")) == ()
    assert len(book.story(JobId("AJ_2"))) == STORY_LENGTH


def test_an_offer_that_comes_back_goes_on_with_its_story(book):
    book.end(opened(book), JobOutcome.REJECTED, cause="full", at=2.0)
    opened(book)
    causes = [entry.cause for entry in book.story(JobId("AJ_1"))]
    assert causes == ["offered", "rejected: full", "offered"]
    with pytest.raises(InvalidTransitionError, match="open"):
        opened(book)


def test_jobs_are_found_by_their_host(book):
    slots = SlotBook()
    slots.add_host(HOST, 2)
    first, second = opened(book, "AJ_1"), opened(book, "AJ_2")
    book.seat(first, slots.reserve(HOST))
    book.seat(second, slots.reserve(HOST))
    assert book.on_host(HOST) == (first, second)
    book.seat(first, None)
    assert book.on_host(HOST) == (second,)
    book.seat(second, None)
    assert book.on_host(HOST) == ()


def test_a_token_is_never_shown(book):
    one = opened(book)
    one.assignment = Assignment(url="ws://lk", token="secret-token", at=1.0)
    assert "secret-token" not in repr(one)
