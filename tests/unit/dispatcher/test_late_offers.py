"""Offers that come when nobody waits for them any more, and what they must not disturb."""

from tests.fakes.room_world import RoomWorld
from voxray.base.settings import HostSettings
from voxray.observability import events as ev
from voxray.observability import room_events as rev


def world_with_a_lost_offer():
    one = RoomWorld(hosts=HostSettings(sessions_per_host=2, max_hosts=1, idle_hosts=0))
    one.advance(2.0)
    one.lose_offers = 1
    room = one.call("a")
    one.advance(0.01)
    (root,) = room.dispatches.values()
    return one, room, root


def until(one, seen):
    while not seen():
        one.advance(0.01)


def given_up(one, room):
    """Let an attempt get no offer; return its dispatch, which was deleted."""
    one.lose_offers = 1
    until(one, lambda: one.of(rev.DispatchMade))
    (stand_in,) = [each for each in room.dispatches.values() if each.stand_in]
    until(one, lambda: one.of(rev.DispatchMade)[-1].outcome == "unanswered")
    return stand_in


def answer_to(one, dispatch):
    """LiveKit offers a job of a dispatch, whatever became of it; return our answer."""
    one._ask(dispatch, "")
    return one.of(ev.JobAnswered)[-1].outcome


def agents(one):
    return sum(map(len, one.agents_in(one.rooms["a"]).values()))


def test_a_refused_one_leaves_its_call_in_the_line_and_the_next_attempt_as_it_is():
    one, room, _ = world_with_a_lost_offer()
    late = given_up(one, room)
    (call,) = one.core._state.line
    before = (call.since, call.step, call.dispatch_id)
    assert answer_to(one, late) == "duplicate"
    assert list(one.core._state.line) == [call]
    assert (call.since, call.step, call.dispatch_id) == before
    one.advance(3.0)
    assert agents(one) == 1
    assert [each.outcome for each in one.of(rev.DispatchMade)] == [
        "created",
        "unanswered",
        "created",
    ]


def test_a_refused_one_does_not_take_the_place_of_the_job_that_is_awaited():
    one, room, _ = world_with_a_lost_offer()
    late = given_up(one, room)
    one.assigns = False
    until(one, lambda: "accepted" in [each.outcome for each in one.of(ev.JobAnswered)])
    assert answer_to(one, late) == "duplicate"
    # LiveKit's assignment never comes: the call tries again.
    one.assigns = True
    one.advance(12.0)
    assert agents(one) == 1


def test_one_of_a_call_whose_agent_left_on_purpose_is_refused():
    one, room, root = world_with_a_lost_offer()
    one.advance(5.0)
    (job_id,) = next(iter(one.agents_in(room).values()))
    one.leave_on_purpose(job_id)
    one.advance(1.0)
    assert answer_to(one, root) == "duplicate"
    one.advance(30.0)
    assert agents(one) == 0


def test_one_that_the_dispatcher_before_us_asked_for_is_refused_and_its_call_asked_for_anew():
    one, room, _ = world_with_a_lost_offer()
    # Deleted, it is terminated as soon as it is accepted, as if its agent had been sent away.
    late = given_up(one, room)
    one.restart()
    one.advance(0.2)
    assert answer_to(one, late) == "duplicate"
    one.advance(20.0)
    assert agents(one) == 1


def test_one_that_was_refused_before_a_restart_does_not_count_as_an_agent_that_left():
    one, _, root = world_with_a_lost_offer()
    one.advance(5.0)
    assert answer_to(one, root) == "duplicate"
    for host in one.living():
        one.kill(host.host_id)
    one.restart()
    one.advance(60.0)
    assert agents(one) == 1
