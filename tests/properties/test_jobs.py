"""Random walks over the transition table."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxray.base.errors import InvalidTransitionError
from voxray.base.ids import JobId
from voxray.dispatcher.job_book import JobBook
from voxray.dispatcher.jobs import STORY_LENGTH, TRANSITIONS, Job, JobOutcome, JobState


def step(book, job, to, at):
    if to is JobState.ENDED:
        book.end(job, JobOutcome.SUCCESS, cause="over", at=at)
    else:
        book.move(job, to, cause=f"to {to}", at=at)


@given(st.lists(st.sampled_from(list(JobState)), max_size=200))
def test_a_story_is_an_unbroken_chain_of_allowed_steps(wanted):
    book = JobBook()
    job = Job(job_id=JobId("AJ_1"), room="r", payload=b"", received_at=0.0, offered_at=0.0)
    book.open(job, cause="offered", at=0.0)
    at = 0.0
    for to in wanted:
        at += 1.0
        before = job.state
        if to not in TRANSITIONS[before]:
            with pytest.raises(InvalidTransitionError) as raised:
                step(book, job, to, at)
            assert raised.value.story
            assert job.state is before
        else:
            step(book, job, to, at)
            assert job.state is to
    story = book.story(job.job_id)
    assert 1 <= len(story) <= STORY_LENGTH
    assert story[-1].to_state is job.state
    for earlier, later in itertools.pairwise(story):
        assert later.from_state is earlier.to_state
        assert earlier.at < later.at
    assert (book.get(job.job_id) is None) == (job.state is JobState.ENDED)
