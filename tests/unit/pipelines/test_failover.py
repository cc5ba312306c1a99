"""How a stream searches for a replica: whom it asks, how long it waits, when it gives up."""

import random

import pytest

from voxray.base.errors import (
    CapacityError,
    ConnectionFailedError,
    EngineConfigError,
    EngineError,
    PeerFailedError,
    StreamGivenUpError,
)
from voxray.base.ids import ReplicaId
from voxray.pipelines.failover import (
    ABSENT,
    LOST,
    GiveUp,
    ReopenBudget,
    Search,
    TryReplica,
    Wait,
    error_of,
    given_up,
)
from voxray.pipelines.routing import Replica, ReplicaView
from voxray.pipelines.wire.messages import Failed

ONE, TWO = (
    ReplicaView(
        replica=Replica(
            replica_id=ReplicaId(f"r-{n}"), group="r", engines=("stt",), address="a", node="n"
        )
    )
    for n in (1, 2)
)
BROKEN = Failed(0, LOST, "the connection broke", retryable=True)


@pytest.fixture
def search():
    return Search("stt", node="n", now_s=100.0, wait_s=5.0, rng=random.Random(1))


def asked(step):
    assert isinstance(step, TryReplica)
    return step.replica.replica_id


def test_a_refusal_leads_to_the_next_replica_at_once(search):
    assert asked(search.next(100.0, (ONE, TWO))) == "r-1"
    search.refused(ReplicaId("r-1"), Failed(0, "limit", "full", retryable=True), 100.0)
    assert asked(search.next(100.0, (ONE, TWO))) == "r-2"


def test_the_same_replica_is_asked_again_after_a_growing_pause(search):
    pauses = []
    now_s = 100.0
    for _ in range(3):
        assert asked(search.next(now_s, (ONE,))) == "r-1"
        search.refused(ReplicaId("r-1"), BROKEN, now_s)
        step = search.next(now_s, (ONE,))
        assert isinstance(step, Wait)
        pauses.append(step.seconds)
        now_s += step.seconds
    assert 0 < pauses[0] < pauses[1] < pauses[2] <= 1.0


def test_it_waits_for_a_first_replica_until_the_deadline(search):
    assert search.next(100.0, ()) == Wait(seconds=5.0)
    assert asked(search.next(104.0, (ONE,))) == "r-1"


def test_at_the_deadline_it_gives_up_and_says_the_last_answer(search):
    search.refused(ReplicaId("r-1"), BROKEN, 100.0)
    step = search.next(105.0, (ONE,))
    assert isinstance(step, GiveUp)
    assert isinstance(step.error, CapacityError)
    assert "the connection broke" in str(step.error)


def test_a_replica_that_was_never_asked_is_asked_even_at_the_deadline(search):
    search.refused(ReplicaId("r-1"), BROKEN, 104.0)
    assert asked(search.next(106.0, (ONE, TWO))) == "r-2"


def test_nobody_known_and_nobody_offering_are_two_errors(search):
    unknown = search.next(105.0, ())
    assert isinstance(unknown.error, CapacityError)
    search.refused(ReplicaId("r-1"), Failed(0, ABSENT, "not here", retryable=True), 100.0)
    told = ReplicaView(replica=ONE.replica, offers=frozenset({"tts"}))
    assert isinstance(search.next(100.0, (told,)), Wait)
    absent = search.next(105.0, (told,))
    assert isinstance(absent.error, EngineConfigError)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("config", EngineConfigError),
        ("engine", EngineError),
        ("input", EngineError),
        ("limit", CapacityError),
        ("overloaded", CapacityError),
        (LOST, ConnectionFailedError),
        ("something-new", EngineError),
    ],
)
def test_a_refusal_for_good_ends_the_search(search, code, error):
    failure = Failed(0, code, "no", retryable=False)
    search.refused(ReplicaId("r-1"), failure, 100.0)
    step = search.next(100.0, (ONE, TWO))
    assert type(step.error) is error
    assert type(error_of(failure)) is error


def test_a_stream_moves_only_so_often():
    budget = ReopenBudget(reopens=2, window_s=10.0)
    assert [budget.spend(now_s) for now_s in (0.0, 1.0, 2.0)] == [True, True, False]
    assert budget.spend(10.5)
    assert not budget.spend(10.9)


def test_only_a_stream_that_was_moved_may_be_to_blame() -> None:
    failure = Failed(1, "lost", "replica r-1 broke", retryable=True)
    never, often = ReopenBudget(reopens=0), ReopenBudget(reopens=1)
    assert not never.spend(0.0)
    assert often.spend(0.0)
    assert not often.spend(1.0)
    assert type(given_up(never, failure)) is PeerFailedError
    assert type(given_up(often, failure)) is StreamGivenUpError
