"""Single moments of the search for calls without an agent."""

import pytest

from tests.fakes.dispatch_world import program
from tests.fakes.room_world import RoomWorld
from voxray.actors.contracts import RequestAnswer
from voxray.base.settings import HostSettings, ReconcilerSettings
from voxray.dispatcher import commands as cmd
from voxray.dispatcher import inputs as inp
from voxray.observability import events as ev
from voxray.observability import room_events as rev


def world(*, slots=2, **options):
    changes = options.pop("settings", {})
    one = RoomWorld(
        hosts=HostSettings(sessions_per_host=slots, max_hosts=1, idle_hosts=0, **changes), **options
    )
    one.advance(2.0)
    return one


def agents(one, name):
    return sum(len(jobs) for jobs in one.agents_in(one.rooms[name]).values())


def missed(one, name="a", **options):
    """A room whose offer the server lost."""
    one.lose_offers = 1
    room = one.call(name, **options)
    one.advance(0.01)
    assert not one.of(ev.JobOffered)
    return room


def test_a_room_whose_request_was_lost_is_served():
    one = world()
    missed(one)
    one.advance(6.0)
    assert agents(one, "a") == 1
    (found,) = one.of(rev.RoomFound)
    assert (found.room, found.how) == ("a", "survey")
    (served,) = one.of(rev.RoomServed)
    assert 1.5 < served.seconds < 6.0
    assert [each.count for each in one.of(rev.RoomsWaiting)] == [1, 0]
    assert one.of(cmd.CreateDispatch)[0].like.dispatch_id == min(one.rooms["a"].dispatches)


def test_a_room_without_a_caller_waits_for_one():
    one = world()
    missed(one, callers=0)
    one.advance(30.0)
    assert not one.of(rev.RoomFound)
    one._join(one.rooms["a"], "PA_late")
    one.advance(20.0)
    assert agents(one, "a") == 1


def test_a_room_is_looked_at_before_the_registration_is_seconds_old():
    one = RoomWorld(
        hosts=HostSettings(sessions_per_host=2, max_hosts=1, idle_hosts=0), start_core=False
    )
    one.call("a")
    one.advance(30.0)
    one.begin()
    one.advance(4.0)
    assert agents(one, "a") == 1


def test_a_full_app_serves_who_waits_longest_first():
    one = world()
    for name in "abcd":
        one.call(name)
        one.advance(0.5)
    one.advance(6.0)
    assert [agents(one, name) for name in "abcd"] == [1, 1, 0, 0]
    assert len(one.core._state.line) == 2
    one.hang_up("a")
    one.call("e")
    one.advance(3.0)
    assert [agents(one, name) for name in "bcde"] == [1, 1, 0, 0]
    one.hang_up("b")
    one.advance(3.0)
    assert [agents(one, name) for name in "cde"] == [1, 1, 0]
    one.hang_up("c")
    one.advance(5.0)
    assert agents(one, "e") == 1
    assert one.served() == ["c", "d", "e"]


def test_livekit_is_not_told_full_while_a_slot_is_kept_for_a_call():
    one = world(slots=1)
    one.call("a")
    one.advance(0.5)
    one.call("b")
    one.advance(6.0)
    one.hang_up("a")
    one.advance(0.01)
    assert not one.full
    # A newcomer in this very moment lines up behind.
    one.call("c")
    one.advance(0.002)
    (offer,) = [each for each in one.of(ev.JobOffered) if each.room == "c"]
    (answer,) = [each for each in one.of(ev.JobAnswered) if each.job_id == offer.job_id]
    assert answer.outcome == "full"
    one.advance(2.0)
    assert (agents(one, "b"), agents(one, "c")) == (1, 0)
    found = [(each.room, each.how) for each in one.of(rev.RoomFound)]
    assert found == [("b", "survey"), ("c", "refused")]


def test_a_call_whose_agent_left_is_left_alone():
    one = world()
    one.call("a")
    one.advance(2.0)
    (job_id,) = one.sim_jobs
    one.leave_on_purpose(job_id)
    one.advance(60.0)
    one.restart()
    one.advance(60.0)
    assert not one.of(rev.RoomFound)
    assert agents(one, "a") == 0


def test_a_call_that_the_program_rejects_is_left_alone():
    one = world(info=program(has_request_fnc=True))
    one.request_answer = RequestAnswer(accept=None)
    one.call("a")
    one.advance(60.0)
    assert len(one.of(cmd.RunRequest)) == 1
    assert not one.of(cmd.CreateDispatch)


def test_a_call_that_the_program_fails_to_judge_is_tried_three_times():
    one = world(info=program(has_request_fnc=True))
    one.request_answer = RequestAnswer(accept=None, error="LookupError: no such tenant")
    one.call("a")
    one.advance(120.0)
    assert len(one.of(cmd.RunRequest)) == 3
    assert one.of(rev.RoomGivenUp)[-1].reason == "rejected"
    assert not len(one.core._state.line)


def test_a_dispatch_that_brings_no_offer_is_deleted_before_the_next():
    one = world()
    missed(one)
    one.lose_offers = 2
    one.advance(30.0)
    assert agents(one, "a") == 1
    outcomes = [each.outcome for each in one.of(rev.DispatchMade)]
    assert outcomes == ["created", "unanswered", "created", "unanswered", "created"]
    assert len(one.of(cmd.DeleteDispatch)) == 2
    assert len(one.rooms["a"].dispatches) == 2


def test_a_dispatch_whose_answer_was_lost_is_used_or_removed():
    one = world()
    room = missed(one)
    one.advance(2.5)
    while not one.of(cmd.CreateDispatch):
        one.advance(0.001)
    one.lose_answers = 1
    one.lose_offers = 1
    one.advance(30.0)
    assert agents(one, "a") == 1
    assert len(room.dispatches) == 2, "the first stand-in is gone"


def test_a_late_offer_of_the_first_dispatch_makes_no_second_agent():
    one = world()
    one.offer_lag_s = 0.0
    room = missed(one)
    one.advance(8.0)
    assert agents(one, "a") == 1
    first = min(room.dispatches.values(), key=lambda each: each.created_at)
    one._launch(first, "")
    one.advance(1.0)
    last = one.of(cmd.AnswerAvailability)[-1]
    assert (last.available, last.terminate) == (False, True)
    assert agents(one, "a") == 1


def test_a_job_lost_with_the_dispatcher_before_it_ran_is_made_up_for():
    one = world()
    one.assigns = False
    one.call("a")
    one.advance(0.5)
    assert one.of(cmd.AnswerAvailability)[0].available
    one.restart()
    one.assigns = True
    one.advance(10.0)
    assert agents(one, "a") == 1


def test_an_assignment_that_never_came_is_made_up_for():
    one = world()
    one.assigns = False
    one.call("a")
    one.advance(7.0)
    one.assigns = True
    one.advance(20.0)
    assert agents(one, "a") == 1


def test_deleting_the_first_dispatch_ends_the_job_of_its_stand_in():
    one = world()
    room = missed(one)
    one.advance(8.0)
    first = min(room.dispatches.values(), key=lambda each: each.created_at)
    del room.dispatches[first.dispatch_id]
    one.advance(15.0)
    assert not room.dispatches
    assert agents(one, "a") == 0
    assert one.of(ev.JobEnded)[-1].reason == "done"


def test_a_dispatch_deleted_while_livekit_could_not_tell_us_ends_its_job():
    one = world()
    room = one.call("a")
    one.advance(2.0)
    one.disconnect()
    room.dispatches.clear()
    one.advance(30.0)
    stops = [each.reason for each in one.of(cmd.StopJob)]
    assert stops == ["its dispatch or its room was deleted"]
    assert agents(one, "a") == 0


@pytest.mark.parametrize("sid", ["", "RM_new"])
def test_an_agent_alone_in_a_room_that_came_back_without_its_dispatch_is_ended(sid):
    one = world()
    room = one.call("a")
    one.advance(2.0)
    room.dispatches.clear()
    room.callers.clear()
    room.sid = sid or room.sid
    one.advance(60.0)
    stops = [each.reason for each in one.of(cmd.StopJob)]
    assert stops == ["its dispatch or its room was deleted"]
    assert agents(one, "a") == 0


def test_an_agent_in_a_room_that_is_listed_and_yet_not_there_is_ended():
    one = world()
    room = one.call("a")
    one.advance(2.0)
    room.callers.clear()
    room.unreachable = True
    one.advance(60.0)
    assert [each.reason for each in one.of(cmd.StopJob)] == ["its room is gone"]
    assert agents(one, "a") == 0


def test_an_agent_that_waits_for_its_caller_is_let_be():
    one = world()
    room = one.call("a")
    one.advance(2.0)
    room.callers.clear()
    one.advance(200.0)
    assert one.of(cmd.StopJob) == []
    assert agents(one, "a") == 1


def test_a_job_whose_room_is_gone_is_ended():
    one = world()
    one.call("a")
    one.advance(2.0)
    del one.rooms["a"]
    one.advance(8.0)
    assert [each.reason for each in one.of(cmd.StopJob)] == ["its room is gone"]


def test_a_list_that_fails_ends_nothing():
    one = world()
    one.call("a")
    one.advance(2.0)
    one.fail_calls = 4
    one.advance(20.0)
    assert agents(one, "a") == 1


@pytest.mark.parametrize("worker_type", [1, 2])
def test_each_participant_gets_an_agent_of_its_own(worker_type):
    one = world(slots=4, info=program(worker_type=worker_type))
    one.lose_offers = 1
    room = one.call("a", callers=2)
    one.advance(10.0)
    assert len(room.callers) == 2
    assert agents(one, "a") == 2
    # Whoever comes later gets one, though two dispatches ask for it.
    one._join(room, "PA_late")
    one.advance(5.0)
    assert agents(one, "a") == 3


def test_a_job_refused_to_one_participant_is_not_taken_for_his_agent_after_a_restart():
    one = world(info=program(worker_type=2))
    one.lose_offers = 2
    room = one.call("a", callers=2, joins_after_s=0.0)
    one.advance(10.0)
    dropped = [job for each in room.dispatches.values() for job in each.jobs if job.dropped]
    assert {job.participant for job in dropped} == set(room.callers)
    for host in one.living():
        one.kill(host.host_id)
    one.restart()
    one.advance(60.0)
    assert set(one.agents_in(room)) == one.calls_of(room)


def test_an_agent_whose_job_livekit_has_still_to_show_is_waited_for():
    one = world()
    one.record_lag_s = 6.0
    room = one.call("a", joins_after_s=0.0)
    one.advance(1.0)
    one.kill(next(iter(one.hosts)))
    one.restart()
    one.advance(5.0)
    assert not one.of(cmd.CreateDispatch)
    # The dead process' participant is gone.
    one.advance(25.0)
    assert agents(one, "a") == 1
    assert len(room.dispatches) == 2


def test_a_tenant_at_its_limit_holds_nobody_up():
    one = world(slots=1, settings={"tenant_key": "tenant", "tenant_limits": {"x": 0}})
    line = one.core._state.line
    one.call("a")
    one.advance(0.5)
    one.call("b")
    one.advance(6.0)
    (call,) = line
    line.leave(call)
    call.tenant = "x"
    line.join(call, "survey")
    assert line.claims(one.clock.now) == 0
    assert line.admits(None, "", 1, one.clock.now)


def answer_to(one, dispatch):
    """LiveKit offers a job of a dispatch, whatever became of it; return our answer."""
    one._ask(dispatch, "")
    return one.of(ev.JobAnswered)[-1].outcome


def test_a_late_offer_of_a_stand_in_that_was_given_up_is_refused():
    one = world()
    room = missed(one)
    one.lose_offers = 1
    while not one.of(rev.DispatchMade):
        one.advance(0.01)
    (stand_in,) = [each for each in room.dispatches.values() if each.stand_in]
    while len(one.of(rev.DispatchMade)) < 2:
        one.advance(0.01)
    # It goes at once, not when the room is looked at for the next attempt.
    (delete,) = one.of(cmd.DeleteDispatch)
    assert delete.dispatch_id == stand_in.dispatch_id
    given_up = one.commands.index(cmd.EmitEvent(event=one.of(rev.DispatchMade)[1]))
    assert one.commands[given_up + 1] == delete
    assert answer_to(one, stand_in) == "duplicate"
    one.advance(5.0)
    assert agents(one, "a") == 1


def test_a_running_job_that_livekit_does_not_show_is_known_all_the_same():
    one = world()
    one.record_lag_s = 1000.0
    one.call("a")
    one.advance(300.0)
    assert len(one.of(cmd.ViewRoom)) > 1
    assert not one.of(rev.RoomFound)


def test_a_stand_in_gives_its_call_one_agent_and_none_after_it():
    one = world()
    room = missed(one)
    one.advance(5.0)
    (stand_in,) = [each for each in room.dispatches.values() if each.stand_in]
    assert answer_to(one, stand_in) == "duplicate"
    (job_id,) = next(iter(one.agents_in(room).values()))
    one.leave_on_purpose(job_id)
    one.advance(1.0)
    assert answer_to(one, stand_in) == "duplicate"


def test_a_call_whose_agent_left_before_a_restart_is_left_alone():
    one = world()
    room = one.call("a")
    one.advance(2.0)
    (job_id,) = next(iter(one.agents_in(room).values()))
    one.leave_on_purpose(job_id)
    one.restart()
    one.advance(30.0)
    assert not one.of(cmd.CreateDispatch)


TENANTS = {"tenant_key": "tenant", "tenant_limit": 1}


def test_calls_of_a_tenant_at_its_limit_wait_without_being_dispatched_again_and_again():
    one = world(slots=5, settings=TENANTS)
    for name in ("a", "b", "c"):
        one.call(name, metadata='{"tenant": "x"}')
        one.advance(0.5)
    one.call("d", metadata='{"tenant": "y"}')
    one.call("e")
    one.advance(300.0)
    assert [agents(one, name) for name in "abcde"] == [1, 0, 0, 1, 1]
    refused = [each for each in one.of(ev.JobAnswered) if each.outcome == "tenant_limit"]
    assert len(refused) == 2
    assert not one.of(cmd.CreateDispatch)
    one.hang_up("a")
    one.advance(2.0)
    assert [agents(one, name) for name in "bcde"] == [1, 0, 1, 1]
    one.hang_up("b")
    one.advance(2.0)
    assert [agents(one, name) for name in "cde"] == [1, 1, 1]
    assert len(one.of(cmd.CreateDispatch)) == 2


def test_a_newcomer_of_a_tenant_lines_up_behind_those_of_its_tenant_who_wait():
    one = world(slots=5, settings=TENANTS)
    for name in ("a", "b"):
        one.call(name, metadata='{"tenant": "x"}')
        one.advance(0.5)
    one.advance(5.0)
    one.hang_up("a")
    # Free slots are many; of its tenant's there is one, and it is b's.
    one.call("c", metadata='{"tenant": "x"}', joins_after_s=0.0)
    one.call("d", metadata='{"tenant": "y"}', joins_after_s=0.0)
    one.advance(3.0)
    assert [agents(one, name) for name in "bcd"] == [1, 0, 1]


def test_a_dispatcher_that_does_not_search_keeps_no_line():
    one = RoomWorld(
        reconciler=ReconcilerSettings(enabled=False),
        hosts=HostSettings(sessions_per_host=1, max_hosts=1, idle_hosts=0),
    )
    one.advance(2.0)
    one.lose_offers = 1
    one.call("a")
    one.advance(30.0)
    assert not one.of(cmd.ListRooms)
    assert not len(one.core._state.line)


def test_beside_others_a_call_is_left_to_them_for_as_long_as_livekit_s_record_lags():
    one = world()
    one.alone = False
    one.restart()
    one.advance(3.0)
    missed(one)
    one.advance(7.0)
    assert not one.of(cmd.CreateDispatch)
    one.advance(8.0)
    assert agents(one, "a") == 1


def test_many_calls_are_looked_at_no_faster_than_allowed():
    one = world(slots=50, reconciler=ReconcilerSettings(rate=5.0))
    one.lose_offers = 30
    for number in range(30):
        one.call(f"r{number}")
    one.advance(60.0)
    assert all(agents(one, name) for name in one.rooms)
    asked = [each for each in one.commands if isinstance(each, cmd.ViewRoom | cmd.CreateDispatch)]
    assert len(asked) <= 5 + 60 * 5


def test_a_stray_answer_changes_nothing():
    one = world()
    one.tell(inp.RoomsListed(rooms=()))
    one.tell(inp.RoomViewed(room="x", view=None, gone=True))
    one.advance(1.0)
    assert not one.of(rev.RoomFound)


def test_a_room_with_a_simulated_job_gets_no_second_agent():
    one = world()
    missed(one)
    job_id = one.simulate("a")
    one.advance(120.0)
    assert not one.of(cmd.CreateDispatch)
    assert agents(one, "a") == 0
    # Once that agent is gone, the caller has nobody: the dispatch never had a job.
    one.finish(job_id)
    one.advance(90.0)
    assert agents(one, "a") == 1


def test_a_simulated_job_takes_its_room_out_of_the_line():
    one = world(slots=2)
    for name in "abc":
        one.call(name)
        one.advance(0.5)
    one.advance(6.0)
    assert one.core.snapshot().totals.waiting_rooms == 1
    job_id = one.simulate("c")
    assert one.core.snapshot().totals.waiting_rooms == 0
    one.hang_up("a")
    one.hang_up("b")
    one.advance(60.0)
    assert one.core._state.jobs.get(job_id).host_id
    assert agents(one, "c") == 0
    assert [each.reason for each in one.of(rev.RoomGivenUp) if each.room == "c"] == ["elsewhere"]


@pytest.mark.parametrize("milliseconds", range(0, 3000, 37))
def test_a_simulated_job_at_any_moment_of_an_attempt_is_the_only_agent(milliseconds):
    one = world()
    missed(one)
    one.advance(milliseconds / 1000)
    placed = agents(one, "a")
    job_id = one.simulate("a")
    under_way = {job.job_id for job in one.core._state.line.live_in("a")} - {job_id}
    one.advance(60.0)
    assert agents(one, "a") == max(placed, len(under_way))
