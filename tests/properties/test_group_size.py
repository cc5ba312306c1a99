"""Replica groups of any bounds under any load, in virtual time."""

from hypothesis import given
from hypothesis import strategies as st

from voxray.base.settings import ReplicaGroupSettings
from voxray.dispatcher.group_size import GROW_AFTER_S, SHRINK_AFTER_S, GroupLoad, GroupSize

STEP_S = 1.0
bounds = st.tuples(st.integers(1, 5), st.integers(0, 5))


def group_of(bound, max_streams=8):
    least, more = bound
    return ReplicaGroupSettings(
        name="g",
        engines=("e",),
        replicas=least,
        max_replicas=least + more,
        max_streams=max_streams,
        grow_queue_ms=40,
    )


class Replicas:
    """The replicas that follow a size: each takes its time to come up, and may get lost."""

    def __init__(self, size: GroupSize, start_s: float) -> None:
        self.size = size
        self.start_s = start_s
        self.ready = size.wanted
        self.starting: list[float] = []
        self.sizes = [size.wanted]
        self.now = 100.0

    def step(self, streams: int, queue_s: float = 0.0, *, lose: bool = False) -> int:
        self.now += STEP_S
        up = [at for at in self.starting if at <= self.now]
        self.ready += len(up)
        self.starting = [at for at in self.starting if at > self.now]
        if lose and self.ready:
            self.ready -= 1
        load = GroupLoad(
            ready=self.ready, starting=len(self.starting), streams=streams, queue_s=queue_s
        )
        wanted = self.size.decide(load, self.now)
        self.sizes.append(wanted)
        while self.ready + len(self.starting) < wanted:
            self.starting.append(self.now + self.start_s)
        if self.ready + len(self.starting) > wanted:
            self.starting = self.starting[: max(0, wanted - self.ready)]
            self.ready = min(self.ready, wanted)
        return wanted


loads = st.lists(
    st.tuples(st.integers(0, 100), st.floats(0, 1), st.booleans(), st.integers(1, 40)),
    max_size=30,
)


@given(bounds, loads, st.floats(0, 100))
def test_the_size_stays_within_its_bounds_and_changes_by_one(bound, load, start_s):
    group = group_of(bound)
    replicas = Replicas(GroupSize(group), start_s)
    for streams, queue_s, lose, steps in load:
        for _ in range(steps):
            before, on_the_way = replicas.sizes[-1], bool(replicas.starting)
            wanted = replicas.step(streams, queue_s, lose=lose)
            assert group.replicas <= wanted <= group.most
            assert abs(wanted - before) <= 1
            if wanted > before and on_the_way:
                # What was on its way at the step before has come up in it.
                assert len(replicas.starting) == 1


@given(bounds, st.integers(0, 100), st.floats(0, 100))
def test_a_constant_number_of_streams_never_makes_it_flap(bound, streams, start_s):
    replicas = Replicas(GroupSize(group_of(bound)), start_s)
    for _ in range(2000):
        replicas.step(streams)
    sizes = replicas.sizes
    assert sizes == sorted(sizes)
    assert len(set(sizes[-500:])) == 1


@given(bounds, st.integers(0, 100), st.integers(0, 100))
def test_after_the_load_changes_it_goes_one_way_only(bound, before, after):
    replicas = Replicas(GroupSize(group_of(bound)), 5.0)
    for streams in (before, after):
        replicas.sizes = replicas.sizes[-1:]
        for _ in range(1000):
            replicas.step(streams)
        assert replicas.sizes in (sorted(replicas.sizes), sorted(replicas.sizes, reverse=True))


@given(bounds, st.integers(0, 40))
def test_in_the_end_the_streams_have_room(bound, streams):
    group = group_of(bound)
    replicas = Replicas(GroupSize(group), 5.0)
    for _ in range(1000):
        wanted = replicas.step(streams)
    assert wanted == group.most or streams <= 0.75 * 8 * wanted


def test_a_short_burst_starts_nothing_and_a_short_lull_ends_nothing():
    replicas = Replicas(GroupSize(group_of((1, 3))), 1.0)
    for _ in range(50):
        for streams in (8, 8, 0, 0):
            assert replicas.step(streams) == 1
    for _ in range(10):
        replicas.step(8)
    assert replicas.size.wanted == 2
    for _ in range(20):
        for _ in range(int(SHRINK_AFTER_S) - 1):
            assert replicas.step(0) == 2
        assert replicas.step(7) == 2


def test_it_says_when_time_alone_changes_it():
    size = GroupSize(group_of((1, 1)))
    assert size.next_look() is None
    busy = GroupLoad(ready=1, starting=0, streams=8, queue_s=0.0)
    assert size.decide(busy, 100.0) == 1
    at = size.next_look()
    assert at == 100.0 + GROW_AFTER_S
    assert size.decide(busy, at) == 2
