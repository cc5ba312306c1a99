import pytest

from tests.fakes.dispatch_world import World
from voxray.base.settings import HostSettings
from voxray.dispatcher import commands as cmd
from voxray.dispatcher.jobs import JobState
from voxray.dispatcher.tenants import tenant_limit, tenant_of
from voxray.observability import events as ev


def world(**changes):
    fields = {
        "sessions_per_host": 4,
        "min_hosts": 2,
        "max_hosts": 3,
        "idle_hosts": 0,
        "tenant_key": "customer",
        "tenant_limit": 2,
    }
    one = World(hosts=HostSettings(**(fields | changes)))
    one.advance(1.5)
    return one


def of(name):
    return f'{{"customer": "{name}", "other": 1}}'


def outcomes(one):
    return [each.outcome for each in one.of(ev.JobAnswered)]


@pytest.mark.parametrize(
    ("metadata", "tenant"),
    [
        ('{"customer": "acme"}', "acme"),
        (' {"customer": 42}', "42"),
        ('{"customer": ""}', ""),
        ('{"customer": null}', ""),
        ('{"customer": true}', ""),
        ('{"customer": ["acme"]}', ""),
        ('{"other": "acme"}', ""),
        ('["customer"]', ""),
        ('"customer"', ""),
        ("{customer", ""),
        ("{" * 100_000, ""),
        ("", ""),
    ],
)
def test_a_tenant_is_named_by_a_json_object(metadata, tenant):
    assert tenant_of(metadata, "customer") == tenant
    assert not tenant_of(metadata, "")


def test_a_tenant_s_own_limit_goes_before_that_of_all():
    settings = HostSettings(tenant_key="t", tenant_limit=2, tenant_limits={"big": 9, "none": 0})
    assert tenant_limit("small", settings) == 2
    assert tenant_limit("big", settings) == 9
    assert tenant_limit("none", settings) == 0
    assert tenant_limit("", settings) is None
    assert tenant_limit("small", HostSettings(tenant_key="t", tenant_limits={"big": 9})) is None


def test_an_offer_beyond_the_limit_is_refused_at_once_and_says_why():
    one = world()
    jobs = [one.offer(metadata=of("acme")) for _ in range(3)]
    one.offer(metadata=of("other"))
    one.offer()
    assert outcomes(one) == ["accepted", "accepted", "tenant_limit", "accepted", "accepted"]
    assert not one.of(cmd.AnswerAvailability)[2].terminate
    assert "tenant acme at its limit (2)" in one.core.story(jobs[2])[-1].cause


def test_the_slot_of_a_call_that_ended_is_its_tenant_s_again():
    one = world()
    first, _ = one.offer(metadata=of("acme")), one.offer(metadata=of("acme"))
    one.advance(1.0)
    one.finish(first)
    one.advance(0.1)
    one.offer(metadata=of("acme"))
    assert outcomes(one) == ["accepted"] * 3
    one.assigns = False
    one.advance(20.0)
    assert one.core._state.slots.of_tenant("acme") == 2


def test_a_limit_that_was_lowered_takes_nobody_s_call_away():
    """Also a resumed call beyond the limit gets its slot."""
    one = world()
    jobs = [one.offer(metadata=of("acme")) for _ in range(2)]
    one.advance(1.0)
    one.settings = one.settings.model_copy(update={"tenant_limit": 1})
    one.restart()
    one.advance(1.0)
    assert one.core._state.slots.of_tenant("acme") == 2
    one.kill(one.core._state.jobs.get(jobs[0]).host_id)
    one.advance(3.0)
    for job_id in jobs:
        job = one.core._state.jobs.get(job_id)
        assert (job.state, job.generation) == (JobState.RUNNING, 2)
    one.offer(metadata=of("acme"))
    assert outcomes(one) == ["tenant_limit"]


def test_an_offer_that_waited_for_a_host_is_refused_when_its_tenant_has_filled_up():
    one = World(
        hosts=HostSettings(sessions_per_host=4, max_hosts=1, tenant_key="customer", tenant_limit=1)
    )
    one.offer(metadata=of("acme"))
    one.offer(metadata=of("acme"))
    one.offer(metadata=of("other"))
    assert outcomes(one) == []
    one.advance(1.2)
    assert sorted(outcomes(one)) == ["accepted", "accepted", "tenant_limit"]
