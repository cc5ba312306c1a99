"""A new version of the program: who gets jobs, who goes, and when."""

import pytest

from tests.fakes.dispatch_world import World, program
from voxray.base.settings import HostSettings
from voxray.dispatcher import commands as cmd
from voxray.dispatcher.jobs import JobState
from voxray.observability import events as ev


def world(**changes):
    fields = {"sessions_per_host": 2, "min_hosts": 1, "max_hosts": 2, "idle_hosts": 1}
    one = World(hosts=HostSettings(**(fields | changes)), info=program(version="v1"))
    one.advance(1.5)
    return one


def states(one):
    return {each.host_id: each.state for each in one.core.snapshot().hosts}


def version_of(one, job_id):
    return one.hosts[one.core._state.jobs.get(job_id).host_id].version


def test_an_idle_host_of_the_old_version_goes_at_once_and_a_new_one_comes():
    one = world()
    (old,) = states(one)
    one.change_program("v2")
    assert states(one).pop(old) == "draining"
    assert one.of(cmd.StartHost)[-1].program.version == "v2"
    one.advance(1.5)
    assert list(states(one).values()) == ["ready"]
    assert [each.reason for each in one.of(ev.HostRetired)] == [
        "it runs another version of the program"
    ]
    assert one.of(ev.ProgramChanged) == [ev.ProgramChanged(version="v2")]


def test_a_call_stays_where_it_is_and_its_host_goes_with_it():
    one = world()
    job_id = one.offer()
    one.advance(2.0)
    old = one.core._state.jobs.get(job_id).host_id
    one.change_program("v2")
    one.advance(300.0)
    assert states(one)[old] == "outdated"
    assert one.core._state.jobs.get(job_id).state is JobState.RUNNING
    one.finish(job_id)
    one.advance(0.5)
    assert old not in states(one)
    assert not one.of(ev.HostLost)


def test_old_hosts_do_not_keep_new_ones_from_starting():
    one = world(max_hosts=1)
    first = one.offer()
    one.advance(1.0)
    one.change_program("v2")
    second = one.offer()
    # It waits for the new host, as any offer does for a starting one.
    one.advance(1.5)
    assert version_of(one, first) == "v1"
    assert version_of(one, second) == "v2"
    assert [each.outcome for each in one.of(ev.JobAnswered)] == ["accepted"] * 2


def test_a_lost_call_resumes_on_the_new_version():
    one = world()
    job_id = one.offer()
    one.advance(2.0)
    one.change_program("v2")
    one.advance(2.0)
    one.kill(one.core._state.jobs.get(job_id).host_id)
    one.advance(1.0)
    assert one.core._state.jobs.get(job_id).generation == 2
    assert version_of(one, job_id) == "v2"


def test_a_slot_that_was_promised_before_is_kept():
    one = world()
    job_id = one.offer()
    one.change_program("v2")
    one.advance(0.5)
    assert version_of(one, job_id) == "v1"
    assert one.core._state.jobs.get(job_id).state is JobState.RUNNING


def test_a_host_that_was_still_starting_is_stopped():
    one = World(info=program(version="v1"))
    (old,) = states(one)
    one.change_program("v2")
    assert cmd.StopHost(host_id=old, force=True) in one.commands
    one.advance(3.0)
    assert [host.version for host in one.living()] == ["v2"]


def test_hosts_of_another_version_that_were_found_are_replaced():
    one = world()
    one.info = program(version="v2")
    one.restart()
    one.advance(3.0)
    assert [host.version for host in one.living()] == ["v2"]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_change_and_back_ends_with_what_was_said_last(version):
    one = world(max_hosts=3, idle_hosts=2)
    for each in ("v2", "v1", "v2", version):
        one.change_program(each)
        one.advance(0.3)
    one.advance(5.0)
    assert {host.version for host in one.living()} == {version}
    assert set(states(one).values()) == {"ready"}


def test_the_reason_of_a_refusal_names_outdated_hosts():
    one = world()
    one.offer()
    one.advance(2.0)
    one.start_s = 60.0
    one.change_program("v2")
    job_id = one.offer()
    one.advance(3.0)
    assert "outdated" in " ".join(entry.cause for entry in one.core.story(job_id))
