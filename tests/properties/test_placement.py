"""Both policies against their definitions, over random fleets."""

from hypothesis import given
from hypothesis import strategies as st

from voxray.base.ids import HostId
from voxray.dispatcher.placement import HostCondition, HostView, NoFit, choose

host_views = st.builds(
    HostView,
    host_id=st.uuids().map(lambda value: HostId(str(value))),
    condition=st.sampled_from(list(HostCondition)),
    taken=st.integers(0, 5),
    free=st.integers(0, 5),
)
fleets = st.lists(host_views, max_size=8, unique_by=lambda host: host.host_id)
policies = st.sampled_from(["pack", "spread"])


@given(fleets, policies, st.booleans(), st.data())
def test_only_a_fitting_host_is_chosen_and_one_always_is_if_there_is_one(
    fleet, policy, urgent, data
):
    some_host = st.none() | st.sampled_from([host.host_id for host in fleet] or [None])
    exclude, avoid = data.draw(some_host), data.draw(some_host)
    chosen = choose(fleet, policy, exclude=exclude, avoid=avoid, urgent=urgent)
    allowed = {HostCondition.READY} | ({HostCondition.BUSY} if urgent else set())
    fitting = {
        host.host_id
        for host in fleet
        if host.condition in allowed and host.free and host.host_id != exclude
    }
    if isinstance(chosen, NoFit):
        assert not fitting
        assert chosen.reason
    else:
        assert chosen in fitting
        assert chosen != avoid or fitting == {avoid}


@given(fleets, policies, st.randoms())
def test_the_choice_follows_the_policy_and_not_the_order(fleet, policy, rng):
    chosen = choose(fleet, policy)
    shuffled = list(fleet)
    rng.shuffle(shuffled)
    assert choose(shuffled, policy) == chosen
    if isinstance(chosen, NoFit):
        return
    fitting = [host for host in fleet if host.condition is HostCondition.READY and host.free]
    taken = next(host.taken for host in fitting if host.host_id == chosen)
    best = max if policy == "pack" else min
    assert taken == best(host.taken for host in fitting)
