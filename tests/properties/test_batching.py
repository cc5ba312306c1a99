"""The batcher under random arrivals, in virtual time, with one engine that takes its time."""

from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from voxray.pipelines.batching import Batcher, BatchLimits
from voxray.pipelines.cost_model import CostModel

BUDGET_S = 0.008
ARRIVALS = st.lists(
    st.tuples(
        st.integers(0, 7),  # stream
        st.integers(0, 30),  # ms since the arrival before
        st.sampled_from(["put", "put", "put", "put", "close"]),
    ),
    min_size=1,
    max_size=200,
)


class Simulation:
    """Runs a batcher against arrivals; the engine works on one batch at a time."""

    def __init__(self, limits, service_ms):
        self.limits = limits
        self.service_ms = service_ms
        self.batcher = Batcher(limits)
        self.now_s = 0.0
        self.free_s = 0.0
        self.put = defaultdict(list)
        self.put_s = {}
        self.ready_s = {}
        self.ran = defaultdict(list)
        self.waits_s = []
        self.open = set()
        self.closed = set()

    def arrive(self, key, item, action):
        if key in self.closed:
            return
        if action == "close":
            self.batcher.close(key)
            self.open.discard(key)
            self.closed.add(key)
            self.ready_s.pop(key, None)
            return
        if key not in self.open:
            self.batcher.open(key)
            self.open.add(key)
        if self.batcher.put(key, item, self.now_s):
            self.put[key].append(item)
            self.put_s[item] = self.now_s
            self.ready_s.setdefault(key, self.now_s)

    def run_until(self, until_s):
        """Take every batch that is due before `until_s`."""
        while True:
            at_s = max(self.now_s, self.free_s)
            close_at_s = self.batcher.close_at_s(at_s)
            if close_at_s is None:
                break
            assert close_at_s <= max(at_s, min(self.ready_s.values()) + BUDGET_S) + 1e-9
            close_at_s = max(close_at_s, at_s)
            if close_at_s > until_s:
                break
            self.take(close_at_s)
        self.now_s = until_s

    def take(self, at_s):
        self.now_s = at_s
        batch = self.batcher.take(at_s)
        keys = [key for key, _ in batch.items]
        assert batch.oldest_s == min(self.put_s[inputs[0]] for _, inputs in batch.items)
        assert len(keys) == len(set(keys)) <= self.limits.max_batch
        for key, inputs in batch.items:
            assert key in self.open
            assert 0 < len(inputs) <= self.limits.inputs_per_turn
            self.ran[key].extend(inputs)
            self.waits_s.append(at_s - self.ready_s.pop(key))
            if len(self.ran[key]) < len(self.put[key]):
                self.ready_s[key] = at_s
        service_s = self.service_ms / 1000 * len(keys)
        self.free_s = at_s + service_s
        self.batcher.done(batch, service_s)


@settings(max_examples=150, deadline=None)
@given(
    arrivals=ARRIVALS,
    max_batch=st.integers(1, 6),
    inputs_per_turn=st.integers(1, 4),
    service_ms=st.floats(0, 20),
)
def test_order_is_kept_nothing_is_lost_and_nobody_starves(
    arrivals, max_batch, inputs_per_turn, service_ms
):
    limits = BatchLimits(
        max_batch=max_batch, latency_budget_s=BUDGET_S, inputs_per_turn=inputs_per_turn
    )
    simulation = Simulation(limits, service_ms)
    for number, (key, gap_ms, action) in enumerate(arrivals):
        simulation.run_until(simulation.now_s + gap_ms / 1000)
        simulation.arrive(key, number, action)
    simulation.run_until(simulation.now_s + 1000.0)
    for key, items in simulation.put.items():
        ran = simulation.ran[key]
        # All of it in order, or what had run when the stream was closed.
        assert ran == items[: len(ran)]
        assert len(ran) == len(items) or key in simulation.closed
    # Eight streams take turns: each waits for the budget, and for the batches before its own.
    rounds = -(-8 // max_batch) + 1
    longest_s = BUDGET_S + rounds * max_batch * service_ms / 1000
    assert max(simulation.waits_s, default=0.0) <= longest_s + 1e-9


@settings(max_examples=100, deadline=None)
@given(arrivals=ARRIVALS)
def test_an_idle_engine_never_holds_work_beyond_the_budget(arrivals):
    limits = BatchLimits(max_batch=100, latency_budget_s=BUDGET_S)
    simulation = Simulation(limits, service_ms=0)
    for number, (key, gap_ms, action) in enumerate(arrivals):
        simulation.run_until(simulation.now_s + gap_ms / 1000)
        simulation.arrive(key, number, action)
    simulation.run_until(simulation.now_s + 1.0)
    assert max(simulation.waits_s, default=0.0) <= BUDGET_S + 1e-9


@settings(max_examples=50, deadline=None)
@given(offsets_ms=st.lists(st.integers(0, 19), min_size=6, max_size=6))
def test_six_talking_calls_share_batches(offsets_ms):
    """Each brings a frame every 20 ms, at its own moment; the engine is fast."""
    simulation = Simulation(BatchLimits(max_batch=64, latency_budget_s=BUDGET_S), service_ms=0.05)
    frames = sorted(
        (0.001 * offset + 0.02 * n, key) for key, offset in enumerate(offsets_ms) for n in range(50)
    )
    sizes = []
    take = simulation.take

    def counted(at_s):
        before = len(simulation.waits_s)
        take(at_s)
        sizes.append(len(simulation.waits_s) - before)

    simulation.take = counted
    for at_s, key in frames:
        simulation.run_until(at_s)
        simulation.arrive(key, (at_s, key), "put")
    simulation.run_until(2.0)
    later = sizes[len(sizes) // 4 :]
    # At most four windows of 8 ms begin in 20 ms, the last cut short by a silence: so six calls
    # share at most three batches on the average.
    assert sum(later) / len(later) >= 1.9


UNIT_S = 0.01
HEAVY = 0


@settings(max_examples=100, deadline=None)
@given(
    backlog=st.lists(st.sampled_from([0.5, 1.0, 2.0]), min_size=1, max_size=300),
    gaps_ms=st.lists(st.integers(0, 60), min_size=1, max_size=40),
    turn_ms=st.integers(5, 100),
)
def test_one_long_utterance_does_not_starve_the_others(backlog, gaps_ms, turn_ms):
    """One stream brings a long backlog at once; the engine takes 10 ms for each unit of it."""
    turn_s = turn_ms / 1000
    work = CostModel(prior_fixed_s=0.0)
    for weight in (1.0, 2.0, 3.0):
        work.observe(weight, UNIT_S * weight)
    batcher = Batcher(BatchLimits(max_batch=64, latency_budget_s=0.0, turn_s=turn_s), work=work)
    batcher.open(HEAVY)
    for number, weight in enumerate(backlog):
        batcher.put(HEAVY, number, 0.0, weight=weight)
    arrivals, at_s = [], 0.0
    for key, gap_ms in enumerate(gaps_ms, start=1):
        batcher.open(key)
        at_s += gap_ms / 1000
        arrivals.append((at_s, key))
    ran, now_s, waits_s, longest_s = [], 0.0, [], 0.0
    while True:
        while arrivals and arrivals[0][0] <= now_s:
            since_s, key = arrivals.pop(0)
            batcher.put(key, since_s, since_s, weight=0.1)
        batch = batcher.take(now_s)
        if batch is None:
            if not arrivals:
                break
            now_s = arrivals[0][0]
            continue
        service_s = UNIT_S * batch.weight
        longest_s = max(longest_s, service_s)
        now_s += service_s
        batcher.done(batch, service_s)
        for key, inputs in batch.items:
            if key == HEAVY:
                ran.extend(inputs)
            else:
                waits_s.extend(now_s - since_s for since_s in inputs)
    assert ran == list(range(len(backlog)))
    assert len(waits_s) == len(gaps_ms)
    # One input of each stream, and the turn: however long the backlog is.
    firsts_s = UNIT_S * (2.0 + 0.1 * len(gaps_ms))
    assert longest_s <= firsts_s + turn_s + 1e-9
    # The batch under way, and its own.
    assert max(waits_s) <= 2 * longest_s + 1e-9
