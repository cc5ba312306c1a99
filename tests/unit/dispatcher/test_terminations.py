from tests.fakes.dispatch_world import World, program
from voxray.base.settings import HostSettings
from voxray.dispatcher import commands as cmd
from voxray.dispatcher import inputs as inp
from voxray.dispatcher.jobs import JobState
from voxray.dispatcher.terminations import ICE_HORIZON_S, MAX_UNKNOWN
from voxray.observability import events as ev


def running(**changes):
    fields = {"sessions_per_host": 4, "min_hosts": 2, "max_hosts": 3, "idle_hosts": 0}
    one = World(hosts=HostSettings(**(fields | changes)))
    one.advance(1.5)
    job_id = one.offer()
    one.advance(2.0)
    return one, job_id


def live(one, job_id):
    return one.core._state.jobs.get(job_id)


def resumed(after_s):
    one, job_id = running()
    one.kill(live(one, job_id).host_id)
    one.advance(after_s)
    return one, job_id


def test_a_termination_stops_the_job_at_its_host_at_once():
    one, job_id = running()
    commands = one.tell(inp.Terminated(job_id=job_id))
    assert commands == [
        cmd.StopJob(
            host_id=live(one, job_id).host_id,
            job_id=job_id,
            generation=1,
            reason="terminated by livekit",
        )
    ]
    assert one.tell(inp.Terminated(job_id=job_id)) == []
    one.advance(0.2)
    assert one.of(ev.JobEnded)[0].outcome == "success"


def test_the_stale_termination_after_a_re_join_is_ignored():
    # The world's livekit sends it when the newcomer throws the old one out, as the real one does.
    one, job_id = resumed(1.0)
    assert len(one.of(cmd.CheckRoom)) == 1
    assert one.of(ev.TerminationIgnored) == [ev.TerminationIgnored(job_id=job_id, generation=2)]
    assert live(one, job_id).state is JobState.RUNNING
    assert not one.of(cmd.StopJob)
    assert "termination ignored: the agent is in the room" in [
        entry.cause for entry in one.core.story(job_id)
    ]


def test_a_termination_within_the_ice_horizon_is_looked_into():
    one, job_id = resumed(1.0)
    one.advance(ICE_HORIZON_S - 1.5)
    one.in_room.pop(job_id)
    one.tell(inp.Terminated(job_id=job_id))
    assert len(one.of(cmd.CheckRoom)) == 2
    one.advance(0.5)
    assert live(one, job_id) is None
    assert "not in the room" in one.of(cmd.StopJob)[0].reason


def test_a_termination_after_the_horizon_stands():
    one, job_id = resumed(1.0)
    one.advance(ICE_HORIZON_S)
    one.tell(inp.Terminated(job_id=job_id))
    assert len(one.of(cmd.CheckRoom)) == 1
    assert len(one.of(cmd.StopJob)) == 1


def test_a_room_that_is_gone_ends_the_job():
    one, job_id = running(max_hosts=2)
    one.start_s = 5.0
    used = live(one, job_id).host_id
    one.kill(next(each.host_id for each in one.living() if each.host_id != used))
    one.advance(0.1)
    one.kill(used)
    one.advance(1.0)
    one.rooms_gone.add(job_id)
    one.tell(inp.Terminated(job_id=job_id))
    one.advance(0.1)
    assert live(one, job_id) is None
    assert one.of(ev.JobEnded)[0].outcome == "lost"
    assert len(one.of(cmd.StartJob)) == 1


def test_absence_before_the_re_join_says_nothing():
    one, job_id = running(max_hosts=2)
    one.start_s = 20.0
    one.kill(live(one, job_id).host_id)
    one.kill(one.living()[0].host_id)
    one.advance(16.0)
    # ICE gave up on the old participant, and no host is there yet.
    one.tell(inp.Terminated(job_id=job_id))
    one.advance(10.0)
    assert len(one.of(cmd.CheckRoom)) > 3
    assert live(one, job_id).state is JobState.RUNNING
    assert len(one.of(ev.TerminationIgnored)) == 1


def test_an_answer_from_before_the_re_join_does_not_end_what_re_joined():
    one, job_id = running()
    one.kill(live(one, job_id).host_id, seen_after_s=0.0)
    one.advance(0.15)
    one._check_room = lambda command: None
    one.tell(inp.Terminated(job_id=job_id))
    assert not live(one, job_id).joined
    one.advance(0.3)
    assert live(one, job_id).joined
    one.tell(inp.RoomChecked(job_id=job_id, answer=inp.RoomAnswer.ABSENT))
    assert not one.of(cmd.StopJob)
    one.advance(1.1)
    assert len(one.of(cmd.CheckRoom)) == 2
    one.tell(inp.RoomChecked(job_id=job_id, answer=inp.RoomAnswer.ABSENT))
    assert len(one.of(cmd.StopJob)) == 1


def test_a_call_is_not_ended_on_a_guess():
    one, job_id = resumed(1.0)
    one._check_room = lambda command: one.later(
        0.0, inp.RoomChecked(job_id=command.job_id, answer=inp.RoomAnswer.UNKNOWN)
    )
    one.tell(inp.Terminated(job_id=job_id))
    one.advance(30.0)
    assert len(one.of(cmd.CheckRoom)) == 1 + MAX_UNKNOWN
    assert len(one.of(ev.TerminationIgnored)) == 2
    assert live(one, job_id).state is JobState.RUNNING


def test_an_answer_that_never_comes_is_asked_for_again():
    one, job_id = resumed(1.0)
    one._check_room = lambda command: None
    one.tell(inp.Terminated(job_id=job_id))
    one.advance(6.5)
    assert len(one.of(cmd.CheckRoom)) == 3
    assert live(one, job_id).state is JobState.RUNNING


def test_a_second_termination_during_a_look_changes_nothing():
    one, job_id = resumed(1.0)
    one.tell(inp.Terminated(job_id=job_id))
    assert one.tell(inp.Terminated(job_id=job_id)) == []


def test_a_termination_before_the_assignment_frees_the_slot():
    one = World(hosts=HostSettings(max_hosts=1), info=program(has_request_fnc=True))
    one.assigns = False
    one.advance(1.5)
    first = one.offer()
    one.advance(0.1)
    one.tell(inp.Terminated(job_id=first))
    one.answers_requests = False
    second = one.offer()
    one.tell(inp.Terminated(job_id=second))
    assert one.core.snapshot().totals.reserved == 0
    assert [each.available for each in one.of(cmd.AnswerAvailability)] == [True, False]


def test_a_termination_of_an_unknown_job_or_after_the_end_is_nothing():
    one, job_id = running()
    one.finish(job_id)
    one.advance(0.1)
    assert one.tell(inp.Terminated(job_id=job_id)) == []
    assert one.tell(inp.Terminated(job_id="AJ_unknown")) == []
    assert one.tell(inp.RoomChecked(job_id=job_id, answer=inp.RoomAnswer.GONE)) == []
