"""The index of hosts against a look at every host, after random changes of random fleets."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.placement import host, index_of
from voxray.base.ids import HostId
from voxray.dispatcher.host_index import HostIndex
from voxray.dispatcher.placement import HostCondition, NoFit
from voxray.dispatcher.ranked import Ranked

NAMES = ("a", "b", "c", "d", "e", "f")
views = st.builds(
    host,
    st.sampled_from(NAMES),
    st.integers(0, 4),
    st.integers(0, 4),
    # Mostly hosts that may be chosen.
    st.sampled_from([*HostCondition, *[HostCondition.READY] * 4, HostCondition.BUSY]),
    own_load=st.integers(0, 10**9),
    empty_since=st.none() | st.floats(0, 100),
    current=st.booleans(),
)
changes = st.lists(views | st.sampled_from(NAMES), max_size=30)
policies = st.sampled_from(["pack", "spread"])
ORDERS = {
    "pack": lambda view: (-view.slots.taken, view.slots.free, view.host_id),
    "spread": lambda view: (view.slots.taken, -view.slots.free, view.host_id),
}


def apply(todo, policy):
    """Put or remove one after the other; return the index and what it has to hold."""
    index, fleet = HostIndex(policy), {}
    for each in todo:
        if isinstance(each, str):
            index.remove(HostId(each))
            fleet.pop(each, None)
        else:
            index.put(each)
            fleet[each.host_id] = each
    return index, fleet


@given(changes, policies, st.booleans(), st.sampled_from([None, *NAMES]), st.sampled_from(NAMES))
def test_the_choice_is_that_of_a_look_at_every_host(todo, policy, urgent, exclude, avoid):
    index, fleet = apply(todo, policy)
    order = ORDERS["spread" if urgent else policy]
    allowed = {HostCondition.READY} | ({HostCondition.BUSY} if urgent else set())
    fitting = [
        view
        for view in fleet.values()
        if view.condition in allowed and view.slots.free and view.host_id != exclude
    ]
    for refused in (None, avoid):
        chosen = index.choose(exclude=exclude, avoid=refused, urgent=urgent)
        best = min(fitting, key=lambda v: (v.host_id == refused, order(v)), default=None)
        assert isinstance(chosen, NoFit) if best is None else chosen == best.host_id


@given(changes, policies, st.booleans(), st.sampled_from([None, *NAMES]))
def test_a_reason_accounts_for_every_host(todo, policy, urgent, exclude):
    index, fleet = apply(todo, policy)
    chosen = index.choose(exclude=exclude, urgent=urgent)
    if not isinstance(chosen, NoFit):
        return
    allowed = {HostCondition.READY} | ({HostCondition.BUSY} if urgent else set())
    why: Counter[str] = Counter()
    for view in fleet.values():
        if view.condition not in allowed:
            why[view.condition.value] += 1
        else:
            why["excluded" if view.slots.free else "full"] += 1
    counts = ", ".join(f"{count} {name}" for name, count in sorted(why.items()))
    assert chosen.reason == f"no free slot: {counts or 'there is no host'}"


@given(changes, policies)
def test_every_sum_is_that_of_a_look_at_every_host(todo, policy):
    index, fleet = apply(todo, policy)
    hosts = list(fleet.values())
    ready = [view for view in hosts if view.condition is HostCondition.READY]
    for sums, of in ((index.all, hosts), (index.ready, ready)):
        assert sums.hosts == len(of)
        assert sums.capacity == sum(view.slots.capacity for view in of)
        assert sums.used == sum(view.slots.used for view in of)
        assert sums.free == sum(view.slots.free for view in of)
        assert sums.own_load == sum(view.own_load for view in of)
    for condition in HostCondition:
        there = [view for view in hosts if view.condition is condition]
        empty = sorted((v.empty_since, v.host_id) for v in there if v.empty_since is not None)
        assert index.count(condition) == len(there)
        assert index.empty(condition) == len(empty)
        assert index.longest_empty(condition, 3) == tuple(empty[:3])
        # Looking changes nothing.
        assert index.longest_empty(condition, 99) == tuple(empty)
    unable = (HostCondition.SILENT, HostCondition.BUSY, HostCondition.SPENT)
    leaving = [v for v in hosts if v.condition is HostCondition.DRAINING and v.current]
    assert index.others() == len(leaving) + sum(v.condition in unable for v in hosts)


@given(st.lists(views, max_size=8, unique_by=lambda view: view.host_id), policies, st.randoms())
def test_the_choice_does_not_hang_on_the_order_of_the_changes(fleet, policy, rng):
    shuffled = list(fleet)
    rng.shuffle(shuffled)
    assert index_of(shuffled, policy).choose() == index_of(fleet, policy).choose()


ranks = st.tuples(st.sampled_from(NAMES), st.none() | st.integers(0, 5).map(float))


@given(st.lists(ranks, max_size=300), st.sets(st.sampled_from(NAMES)), st.floats(0, 6))
def test_ranked_keys_are_those_of_a_sorted_list(todo, skip, limit):
    ranked: Ranked[HostId, float] = Ranked()
    truth: dict[HostId, float] = {}
    for name, rank in todo:
        if rank is None:
            ranked.drop(HostId(name))
            truth.pop(HostId(name), None)
        else:
            ranked.put(HostId(name), rank)
            truth[HostId(name)] = rank
        order = sorted((each, key) for key, each in truth.items())
        assert len(ranked) == len(order)
        assert ranked.first() == (order[0] if order else None)
    assert (
        ranked.lowest(9, skip) == [entry for entry in order if entry[1] not in skip] if todo else 1
    )
    taken = ranked.take_until(limit)
    assert taken == [
        name for rank, name in sorted((r, n) for n, r in truth.items()) if rank <= limit
    ]
    assert len(ranked) == len(truth) - len(taken)
    assert len(ranked._heap) <= 2 * len(truth) + 64
