import pytest

from tests.fakes.placement import host, index_of
from voxray.base.ids import HostId
from voxray.dispatcher.placement import HostCondition, NoFit


def test_pack_fills_a_host_before_the_next():
    hosts = [host("a", 1, 3), host("b", 3, 1), host("c", 0, 4), host("d", 4, 0)]
    assert index_of(hosts, "pack").choose() == "b"


def test_spread_keeps_hosts_even():
    assert index_of([host("a", 1, 3), host("b", 3, 1), host("c", 0, 4)], "spread").choose() == "c"


@pytest.mark.parametrize("policy", ["pack", "spread"])
def test_ties_go_to_the_lower_id_whatever_the_order(policy):
    hosts = [host("b", 1, 1), host("a", 1, 1), host("c", 1, 1)]
    assert index_of(hosts, policy).choose() == index_of(reversed(hosts), policy).choose() == "a"


@pytest.mark.parametrize(
    "condition", [each for each in HostCondition if each is not HostCondition.READY]
)
def test_only_ready_hosts_take_new_jobs(condition):
    hosts = [host("a", condition=condition), host("b")]
    assert index_of(hosts).choose() == "b"
    assert index_of(hosts[:1]).choose() == NoFit(reason=f"no free slot: 1 {condition}")


def test_a_resume_is_spread_and_may_go_to_a_busy_host():
    hosts = [host("a", 3, 1), host("b", 0, 4, HostCondition.BUSY)]
    assert index_of(hosts).choose(urgent=True) == "b"
    silent = [host("a", condition=HostCondition.SILENT)]
    assert isinstance(index_of(silent).choose(urgent=True), NoFit)


def test_the_host_a_job_was_lost_on_is_the_last_resort():
    hosts = [host("a", 0, 4), host("b", 3, 1)]
    assert index_of(hosts, "spread").choose(avoid=HostId("a")) == "b"
    assert index_of(hosts[:1], "spread").choose(avoid=HostId("a")) == "a"
    assert index_of(hosts[:1], "spread").choose(exclude=HostId("a")) == NoFit(
        reason="no free slot: 1 excluded"
    )


def test_the_reason_says_why_nothing_fits():
    hosts = [host("a", 1, 0), host("b", 1, 0), host("c", condition=HostCondition.STARTING)]
    assert index_of(hosts).choose() == NoFit(reason="no free slot: 2 full, 1 starting")
    assert index_of([]).choose() == NoFit(reason="no free slot: there is no host")
