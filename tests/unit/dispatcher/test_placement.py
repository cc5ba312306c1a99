import pytest

from voxray.base.ids import HostId
from voxray.dispatcher.placement import HostCondition, HostView, NoFit, choose


def host(name, taken=0, free=1, condition=HostCondition.READY):
    return HostView(host_id=HostId(name), condition=condition, taken=taken, free=free)


def test_pack_fills_a_host_before_the_next():
    hosts = [host("a", 1, 3), host("b", 3, 1), host("c", 0, 4), host("d", 4, 0)]
    assert choose(hosts, "pack") == "b"


def test_spread_keeps_hosts_even():
    assert choose([host("a", 1, 3), host("b", 3, 1), host("c", 0, 4)], "spread") == "c"


@pytest.mark.parametrize("policy", ["pack", "spread"])
def test_ties_go_to_the_lower_id_whatever_the_order(policy):
    hosts = [host("b", 1, 1), host("a", 1, 1), host("c", 1, 1)]
    assert choose(hosts, policy) == choose(reversed(hosts), policy) == "a"


@pytest.mark.parametrize(
    "condition", [each for each in HostCondition if each is not HostCondition.READY]
)
def test_only_ready_hosts_take_new_jobs(condition):
    hosts = [host("a", condition=condition), host("b")]
    assert choose(hosts, "pack") == "b"
    assert choose(hosts[:1], "pack") == NoFit(reason=f"no free slot: 1 {condition}")


def test_a_resume_is_spread_and_may_go_to_a_busy_host():
    hosts = [host("a", 3, 1), host("b", 0, 4, HostCondition.BUSY)]
    assert choose(hosts, "pack", urgent=True) == "b"
    silent = [host("a", condition=HostCondition.SILENT)]
    assert isinstance(choose(silent, "pack", urgent=True), NoFit)


def test_the_host_a_job_was_lost_on_is_the_last_resort():
    hosts = [host("a", 0, 4), host("b", 3, 1)]
    assert choose(hosts, "spread", avoid=HostId("a")) == "b"
    assert choose(hosts[:1], "spread", avoid=HostId("a")) == "a"
    assert choose(hosts[:1], "spread", exclude=HostId("a")) == NoFit(
        reason="no free slot: 1 excluded"
    )


def test_the_reason_says_why_nothing_fits():
    hosts = [host("a", 1, 0), host("b", 1, 0), host("c", condition=HostCondition.STARTING)]
    assert choose(hosts, "pack") == NoFit(reason="no free slot: 2 full, 1 starting")
    assert choose([], "pack") == NoFit(reason="no free slot: there is no host")
