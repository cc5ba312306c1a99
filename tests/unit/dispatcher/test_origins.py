import pytest
from livekit.protocol import agent

from voxray.actors.contracts import STANDS_IN
from voxray.actors.job_request import read_job
from voxray.dispatcher.messages import origin_of
from voxray.dispatcher.origins import (
    NO_CALL,
    CallKey,
    JobOrigin,
    StandIn,
    read_stand_in,
    write_stand_in,
)


def job(**changes):
    fields = {"id": "AJ_1", "dispatch_id": "AD_2", "room": {"name": "r", "sid": "RM_1"}}
    return agent.Job(**(fields | changes)).SerializeToString()


@pytest.mark.parametrize("participant", ["", "PA_1"])
@pytest.mark.parametrize("maker", ["", "19c8a"])
def test_a_stand_in_is_read_as_it_was_written(participant, maker):
    stand_in = StandIn(key=CallKey("AD_1", participant), room_sid="RM_1", maker=maker)
    assert read_stand_in(write_stand_in(stand_in)) == stand_in


@pytest.mark.parametrize("value", ["", "AD_1", "AD_1 ", " RM_1", "a b c d", "@x", "AD_1 @x"])
def test_what_we_did_not_write_is_no_stand_in(value):
    assert read_stand_in(value) is None


def test_a_job_of_somebody_s_dispatch_is_for_that_dispatch():
    origin = origin_of(job())
    assert origin.key == CallKey("AD_2", "")
    assert origin.meant


def test_a_job_of_a_stand_in_is_for_the_dispatch_that_asked_first():
    mark = {STANDS_IN: "AD_1 RM_1 PA_1"}
    origin = origin_of(job(attributes=mark, participant={"sid": "PA_1"}))
    assert origin.key == CallKey("AD_1", "PA_1")
    assert origin.meant


@pytest.mark.parametrize(
    "changes", [{"participant": {"sid": "PA_2"}}, {"room": {"name": "r", "sid": "RM_2"}}]
)
def test_a_stand_in_is_for_one_participant_of_one_room(changes):
    mark = {STANDS_IN: "AD_1 RM_1 PA_1"}
    fields = {"attributes": mark, "participant": {"sid": "PA_1"}} | changes
    assert not origin_of(job(**fields)).meant


def test_a_job_without_a_dispatch_is_for_no_call():
    assert origin_of(job(dispatch_id="")).key is None
    assert origin_of(b"no job") == NO_CALL == JobOrigin()


def test_the_program_does_not_see_the_mark():
    read = read_job(job(attributes={STANDS_IN: "AD_1 RM_1", "mine": "yes"}))
    assert dict(read.attributes) == {"mine": "yes"}
