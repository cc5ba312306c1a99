import pytest

from voxray.base.errors import CapacityError, InvalidTransitionError
from voxray.base.ids import HostId
from voxray.dispatcher.capacity import (
    FULL,
    LOAD_CEILING,
    HostSlots,
    PermitState,
    SlotBook,
    own_load_share,
    report_load,
)

HOST = HostId("h1")


@pytest.fixture
def book():
    book = SlotBook()
    book.add_host(HOST, 2)
    return book


def test_a_permit_is_reserved_used_and_released(book):
    permit = book.reserve(HOST)
    assert book.slots(HOST) == HostSlots(capacity=2, reserved=1, used=0)
    book.use(permit)
    assert book.slots(HOST) == HostSlots(capacity=2, reserved=0, used=1)
    book.release(permit)
    assert book.slots(HOST) == HostSlots(capacity=2, reserved=0, used=0)
    assert permit.state is PermitState.RELEASED
    assert repr(permit) == "<Permit h1#1 released>"


def test_a_permit_can_not_be_released_or_used_twice(book):
    permit = book.reserve(HOST)
    book.use(permit)
    with pytest.raises(InvalidTransitionError):
        book.use(permit)
    book.release(permit)
    with pytest.raises(InvalidTransitionError):
        book.release(permit)
    with pytest.raises(InvalidTransitionError):
        book.use(permit)
    assert book.slots(HOST).free == 2


def test_a_full_or_unknown_host_gives_nothing(book):
    book.reserve(HOST)
    book.reserve(HOST)
    with pytest.raises(CapacityError, match="h1"):
        book.reserve(HOST)
    with pytest.raises(CapacityError):
        book.reserve(HostId("unknown"))


def test_an_adopted_job_counts_even_beyond_capacity(book):
    permits = [book.adopt(HOST) for _ in range(3)]
    assert book.slots(HOST) == HostSlots(capacity=2, reserved=0, used=3)
    assert book.slots(HOST).free == 0
    for permit in permits:
        book.release(permit)
    assert book.slots(HOST).free == 2


def test_a_host_goes_only_without_permits(book):
    permit = book.reserve(HOST)
    with pytest.raises(InvalidTransitionError):
        book.remove_host(HOST)
    book = SlotBook()
    book.add_host(HOST, 1)
    permit = book.reserve(HOST)
    book.release(permit)
    book.remove_host(HOST)
    book.remove_host(HOST)
    assert not book.knows(HOST)
    assert book.slots(HOST).capacity == 0


@pytest.mark.parametrize(
    ("taken", "capacity", "own", "expected"),
    [(0, 10, 0.0, 0.0), (5, 10, 0.0, 0.345), (9, 10, 0.0, 0.621), (1, 10, 0.8, 0.552)],
)
def test_load_is_a_share_of_the_ceiling(taken, capacity, own, expected):
    report = report_load(capacity, capacity - taken, own, accepting=True)
    assert not report.full
    assert report.load == pytest.approx(expected)
    assert report.load <= LOAD_CEILING < 0.7


def test_full_means_no_free_slot_no_host_or_draining():
    assert report_load(2, 0, 0.0, accepting=True) == FULL
    assert report_load(0, 0, 0.0, accepting=True) == FULL
    assert report_load(2, 1, 0.0, accepting=False) == FULL
    assert not report_load(2, 1, 0.0, accepting=True).full


@pytest.mark.parametrize(
    ("load", "threshold", "share"),
    [(None, 0.7, 0.0), (0.35, 0.7, 0.5), (0.9, 0.7, 1.0), (0.5, None, 0.5), (-1.0, 0.7, 0.0)],
)
def test_the_program_s_load_is_taken_against_its_limit(load, threshold, share):
    assert own_load_share(load, threshold) == pytest.approx(share)
