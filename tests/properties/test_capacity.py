"""Permits in random orders of reserve, use, release and hosts that come and go."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from voxray.base.errors import CapacityError, InvalidTransitionError
from voxray.base.ids import HostId
from voxray.dispatcher.capacity import PermitState, SlotBook, report_load

TENANTS = ["", "t1", "t2"]
HOSTS = [HostId(name) for name in ("a", "b", "c")]


class PermitMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.book = SlotBook()
        self.capacity: dict[HostId, int] = {}
        self.permits = []

    def out(self, host_id):
        return [
            permit
            for permit in self.permits
            if permit.host_id == host_id and permit.state is not PermitState.RELEASED
        ]

    @rule(host_id=st.sampled_from(HOSTS), capacity=st.integers(0, 3))
    def add_host(self, host_id, capacity):
        self.book.add_host(host_id, capacity)
        self.capacity[host_id] = capacity

    @rule(host_id=st.sampled_from(HOSTS))
    def remove_host(self, host_id):
        if self.out(host_id):
            return
        self.book.remove_host(host_id)
        self.capacity.pop(host_id, None)

    @rule(host_id=st.sampled_from(HOSTS), tenant=st.sampled_from(TENANTS))
    def reserve(self, host_id, tenant):
        free = self.capacity.get(host_id, 0) - len(self.out(host_id))
        if free > 0:
            self.permits.append(self.book.reserve(host_id, tenant))
        else:
            with pytest.raises(CapacityError):
                self.book.reserve(host_id)

    @rule(host_id=st.sampled_from(HOSTS), tenant=st.sampled_from(TENANTS))
    def adopt(self, host_id, tenant):
        if host_id in self.capacity:
            self.permits.append(self.book.adopt(host_id, tenant))

    @rule(data=st.data())
    @precondition(lambda self: self.permits)
    def use(self, data):
        permit = data.draw(st.sampled_from(self.permits))
        if permit.state is PermitState.RESERVED:
            self.book.use(permit)
        else:
            with pytest.raises(InvalidTransitionError):
                self.book.use(permit)

    @rule(data=st.data())
    @precondition(lambda self: self.permits)
    def release(self, data):
        permit = data.draw(st.sampled_from(self.permits))
        if permit.state is PermitState.RELEASED:
            with pytest.raises(InvalidTransitionError):
                self.book.release(permit)
        else:
            self.book.release(permit)

    @invariant()
    def the_book_adds_up(self):
        for host_id in HOSTS:
            slots = self.book.slots(host_id)
            states = [permit.state for permit in self.out(host_id)]
            assert slots.capacity == self.capacity.get(host_id, 0)
            assert slots.reserved == states.count(PermitState.RESERVED)
            assert slots.used == states.count(PermitState.USED)
            assert slots.free == max(0, slots.capacity - len(states))

    @invariant()
    def every_tenant_has_the_slots_of_its_calls(self):
        out = [each for each in self.permits if each.state is not PermitState.RELEASED]
        for tenant in TENANTS:
            held = sum(permit.tenant == tenant for permit in out) if tenant else 0
            assert self.book.of_tenant(tenant) == held
        # Nobody is remembered for ever.
        assert set(self.book.tenants()) == {each.tenant for each in out} - {""}


TestPermits = PermitMachine.TestCase


@given(st.integers(0, 500), st.integers(0, 500), st.floats(0, 1), st.booleans())
def test_a_free_slot_is_always_offered_and_a_full_fleet_never(capacity, taken, own, accepting):
    free = max(0, capacity - taken)
    report = report_load(capacity, free, own, accepting=accepting)
    assert report.full == (not accepting or taken >= capacity)
    # LiveKit gives nothing to a worker at 0.7 or more, so a load must never get there.
    assert report.load == 1.0 if report.full else 0.0 <= report.load <= 0.69


@given(st.integers(1, 100), st.floats(0, 1), st.floats(0, 1))
def test_load_grows_with_slots_and_own_load(capacity, own, more):
    loads = [
        report_load(capacity, capacity - used, own, accepting=True).load
        for used in range(capacity + 1)
    ]
    assert loads == sorted(loads)
    low, high = sorted((own, more))
    assert (
        report_load(capacity, capacity, low, accepting=True).load
        <= report_load(capacity, capacity, high, accepting=True).load
    )
