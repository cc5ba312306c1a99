import pytest

from tests.fakes.dispatch_world import World, program
from voxray.actors.contracts import AcceptArguments, RequestAnswer
from voxray.base.settings import HostSettings
from voxray.dispatcher import commands as cmd
from voxray.dispatcher import inputs as inp
from voxray.dispatcher.core import SETTLE_S
from voxray.dispatcher.jobs import JobState
from voxray.observability import events as ev


def world(**changes):
    fields = {"sessions_per_host": 2, "max_hosts": 1, "idle_hosts": 0}
    info = program(has_request_fnc=changes.pop("request_fnc", False))
    return World(hosts=HostSettings(**(fields | changes)), info=info)


def ready(**changes):
    one = world(**changes)
    one.advance(1.5)
    return one


def answers(one):
    return [(each.available, each.terminate) for each in one.of(cmd.AnswerAvailability)]


def outcomes(one):
    return [each.outcome for each in one.of(ev.JobAnswered)]


def test_an_offer_is_answered_at_once_with_livekit_s_default_identity():
    one = ready()
    job_id = one.offer()
    assert one.of(cmd.AnswerAvailability) == [
        cmd.AnswerAvailability(
            job_id=job_id, accept=AcceptArguments(identity=f"agent-{job_id}"), terminate=False
        )
    ]
    assert one.of(ev.JobAnswered)[0].seconds == 0.0
    assert one.core.snapshot().totals.reserved == 1


def test_an_assignment_starts_the_job_on_the_reserved_host():
    one = ready()
    job_id = one.offer()
    one.advance(0.1)
    start = one.of(cmd.StartJob)[0]
    assert not start.resign_token
    assert (start.order.generation, start.order.cause) == (1, "new")
    assert (start.order.url, start.order.token) == ("ws://lk", f"token-{job_id}")
    assert (start.order.room, start.order.job, start.order.worker_id) == (
        f"room-{job_id}",
        b"job",
        "AW_1",
    )
    assert one.core.snapshot().totals.used == 1


def test_no_assignment_frees_the_slot():
    one = ready()
    one.assigns = False
    job_id = one.offer()
    one.advance(7.4)
    assert one.core.snapshot().totals.reserved == 1
    one.advance(0.2)
    assert one.core.snapshot().totals.reserved == 0
    assert one.of(ev.JobEnded)[0].outcome == "rejected"
    # An assignment after all must not leave livekit in the belief that somebody serves it.
    assert one.tell(inp.Assigned(job_id=job_id, url="", token="t")) == [
        cmd.UpdateJob(job_id=job_id, status="failed", error="assigned too late")
    ]


def test_a_full_fleet_refuses_at_once_with_the_reason():
    one = ready()
    jobs = [one.offer() for _ in range(3)]
    assert answers(one) == [(True, False), (True, False), (False, False)]
    assert outcomes(one)[-1] == "full"
    assert "1 full" in one.core.story(jobs[2])[-1].cause


def test_the_program_decides_where_it_wants_to():
    one = ready(request_fnc=True)
    job_id = one.offer()
    request = one.of(cmd.RunRequest)[0]
    assert (request.job, request.timeout_s) == (b"job", 2.0)
    assert answers(one) == []
    one.advance(0.1)
    accept = one.of(cmd.AnswerAvailability)[0].accept
    assert (accept.identity, accept.name) == (f"me-{job_id}", "Me")


@pytest.mark.parametrize(
    ("answer", "outcome", "terminate"),
    [
        (RequestAnswer(accept=None, terminate=True), "rejected", True),
        (RequestAnswer(accept=None, error="ValueError: no"), "error", False),
    ],
)
def test_a_rejection_frees_the_slot(answer, outcome, terminate):
    one = ready(request_fnc=True)
    one.request_answer = answer
    one.offer()
    one.advance(0.1)
    assert answers(one) == [(False, terminate)]
    assert outcomes(one) == [outcome]
    assert one.core.snapshot().totals.reserved == 0


def test_a_program_that_does_not_answer_is_answered_for():
    one = ready(request_fnc=True)
    one.answers_requests = False
    job_id = one.offer()
    one.advance(1.9)
    assert answers(one) == []
    one.advance(0.2)
    assert answers(one) == [(False, False)]
    assert outcomes(one) == ["error"]
    host_id = one.living()[0].host_id
    late = RequestAnswer(accept=AcceptArguments(identity="x"))
    assert not [
        each
        for each in one.tell(inp.RequestAnswered(job_id=job_id, host_id=host_id, answer=late))
        if isinstance(each, cmd.AnswerAvailability)
    ]


def test_an_empty_identity_becomes_the_default():
    one = ready(request_fnc=True)
    one.request_answer = RequestAnswer(accept=AcceptArguments(identity="", name="Ann"))
    job_id = one.offer()
    one.advance(0.1)
    accept = one.of(cmd.AnswerAvailability)[0].accept
    assert (accept.identity, accept.name) == (f"agent-{job_id}", "Ann")


def test_another_host_is_asked_when_the_first_dies():
    one = ready(request_fnc=True, min_hosts=2, max_hosts=3)
    one.answers_requests = False
    one.offer()
    first = one.of(cmd.RunRequest)[0].host_id
    one.answers_requests = True
    one.kill(first)
    one.advance(0.2)
    assert [each.host_id == first for each in one.of(cmd.RunRequest)] == [True, False]
    assert answers(one) == [(True, False)]


def test_a_host_that_can_not_be_asked_is_not_asked_again():
    one = ready(request_fnc=True, min_hosts=2, max_hosts=2)
    one.answers_requests = False
    job_id = one.offer()
    first = one.of(cmd.RunRequest)[0].host_id
    failed = inp.RequestFailed(job_id=job_id, host_id=first, reason="unreachable")
    one.tell(failed)
    second = one.of(cmd.RunRequest)[1].host_id
    assert second != first
    # The answer of the host that was given up changes nothing any more.
    one.tell(failed)
    assert len(one.of(cmd.RunRequest)) == 2
    assert answers(one) == []


def test_an_offer_waits_for_a_host_that_is_nearly_ready():
    one = world()
    one.advance(0.5)
    one.offer()
    assert answers(one) == []
    assert one.core.snapshot().totals.held_offers == 1
    one.advance(0.6)
    assert answers(one) == [(True, False)]
    assert one.of(ev.JobAnswered)[0].seconds == pytest.approx(0.5)


def test_an_offer_waits_no_longer_than_its_time():
    one = World(hosts=HostSettings(max_hosts=1), start_core=False)
    one.start_s = 30.0
    one.begin()
    one.offer()
    one.advance(1.4)
    assert answers(one) == []
    one.advance(0.2)
    assert answers(one) == [(False, False)]
    assert outcomes(one) == ["full"]


def test_no_more_offers_wait_than_slots_are_coming():
    one = world()
    for _ in range(4):
        one.offer()
    assert outcomes(one) == ["full", "full"]
    one.advance(1.5)
    assert sorted(outcomes(one)) == ["accepted", "accepted", "full", "full"]


def test_a_start_that_is_known_to_be_slow_is_not_waited_for():
    one = World(
        hosts=HostSettings(sessions_per_host=1, max_hosts=2, idle_hosts=0), start_core=False
    )
    one.start_s = 5.0
    one.begin()
    # The first start told how long one takes.
    one.advance(12.0)
    one.offer()
    one.advance(1.0)
    one.kill(one.living()[0].host_id)
    one.advance(0.1)
    assert one.core.snapshot().totals.ready_hosts == 0
    one.offer()
    assert outcomes(one) == ["accepted", "full"]


def test_a_reserved_slot_is_found_anew_when_its_host_dies():
    one = ready(min_hosts=2, max_hosts=2)
    one.assigns = False
    job_id = one.offer()
    first = one.core._state.jobs.get(job_id).host_id
    one.kill(first)
    one.advance(0.1)
    assert one.core._state.jobs.get(job_id).host_id not in {None, first}
    one.tell(inp.Assigned(job_id=job_id, url="ws://lk", token="t"))
    assert one.of(cmd.StartJob)[0].host_id != first


def test_an_assigned_job_without_any_host_waits_for_one():
    one = ready(max_hosts=2)
    one.assigns = False
    job_id = one.offer()
    one.kill(one.living()[0].host_id)
    one.advance(0.1)
    one.tell(inp.Assigned(job_id=job_id, url="ws://lk", token="t"))
    assert one.core._state.jobs.get(job_id).state is JobState.RESUMING
    one.advance(3.0)
    order = one.of(cmd.StartJob)[0].order
    assert (order.generation, order.cause) == (1, "new")
    assert one.core._state.jobs.get(job_id).state is JobState.RUNNING


def test_offers_end_with_the_connection_they_came_on():
    one = ready(request_fnc=True)
    one.assigns = False
    one.offer()
    one.advance(0.1)
    one.answers_requests = False
    one.offer()
    one.disconnect()
    assert one.core.snapshot().totals.reserved == 0
    assert answers(one) == [(True, False)]
    assert len(one.of(ev.JobEnded)) == 2


def test_a_second_offer_of_a_job():
    one = ready(request_fnc=True)
    one.assigns = False
    job_id = one.offer()
    one.offer(job_id)
    assert answers(one) == []
    one.advance(0.1)
    assert answers(one) == [(True, False)]
    one.offer(job_id)
    assert answers(one) == [(True, False), (True, False)]
    assert one.core.snapshot().totals.reserved == 1


def test_a_job_that_ran_here_is_not_taken_again():
    one = ready()
    job_id = one.offer()
    one.advance(1.0)
    one.finish(job_id)
    one.advance(0.1)
    one.offer(job_id)
    assert answers(one) == [(True, False), (False, False)]
    assert len(one.of(cmd.StartJob)) == 1


def told_loads(one):
    return [(each.full, each.load) for each in one.of(cmd.UpdateWorker)]


def test_in_a_burst_the_load_follows_the_answers_a_moment_later():
    one = ready(sessions_per_host=10)
    one.assigns = False
    before = told_loads(one)
    for _ in range(5):
        one.offer()
    assert answers(one) == [(True, False)] * 5
    # The first of them is told at once, the others together.
    assert told_loads(one)[len(before) :] == [(False, 0.069)]
    one.advance(SETTLE_S)
    assert told_loads(one)[len(before) :] == [(False, 0.069), (False, 0.345)]
    assert one.of(ev.CapacityChanged)[-1].reserved == 5


def test_livekit_hears_at_once_that_a_burst_filled_us():
    one = ready(sessions_per_host=3)
    one.assigns = False
    for _ in range(3):
        one.offer()
    assert told_loads(one)[-1] == (True, 1.0)


def test_a_burst_starts_the_hosts_that_it_needs_without_a_further_offer():
    one = ready(sessions_per_host=10, max_hosts=5)
    one.assigns = False
    hosts = len(one.of(cmd.StartHost))
    for _ in range(9):
        one.offer()
    one.advance(SETTLE_S)
    assert len(one.of(cmd.StartHost)) > hosts
