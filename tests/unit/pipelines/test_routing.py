"""Which replica a stream goes to, and what is said when there is none."""

import random
from collections import Counter

import pytest

from voxray.base.ids import ReplicaId
from voxray.pipelines.routing import Caller, NoReplica, Replica, ReplicaView, choose
from voxray.pipelines.wire.messages import Load


def view(number, *, node="far", offers=None, engines=("silero",), **known):
    replica = Replica(
        replica_id=ReplicaId(f"r-{number}"), group="r", engines=engines, address="a", node=node
    )
    offers = None if offers is None else frozenset(offers)
    return ReplicaView(replica=replica, offers=offers, **known)


def chosen(views, engine="silero", rng=None, **caller):
    found = choose(
        views, engine, Caller(node="here", now_s=10.0, **caller), rng or random.Random(1)
    )
    return found if isinstance(found, NoReplica) else found.replica_id


@pytest.mark.parametrize(
    ("views", "expected"),
    [
        ([view(1, streams=3), view(2, streams=1)], "r-2"),
        ([view(1, streams=0), view(2, streams=9, node="here")], "r-2"),
        ([view(2), view(1)], "r-1"),
        ([view(1, rests_until_s=11.0), view(2, streams=9)], "r-2"),
        ([view(1, rests_until_s=10.0), view(2, streams=9)], "r-1"),
        ([view(1, engines=("espeak",)), view(2, streams=9)], "r-2"),
        ([view(1, offers=("espeak", "tts")), view(2, streams=9)], "r-2"),
        ([view(1, load=Load(1, 9, 0.08)), view(2, load=Load(8, 9, 0.002))], "r-2"),
        ([view(1, load=Load(3, 9, 0.003)), view(2, load=Load(2, 9, 0.001))], "r-2"),
        ([view(1, load=Load(3, 9, 0.0)), view(2, load=Load(2, 9, 0.0), streams=4)], "r-1"),
        ([view(1, load=Load(3, 4, 0.0)), view(2, load=Load(5, 9, 0.0))], "r-2"),
        ([view(1, node="here", load=Load(9, 9, 0.0)), view(2, load=Load(8, 9, 0.9))], "r-2"),
        ([view(1, node="here", failures=1), view(2, load=Load(9, 9, 0.9))], "r-2"),
    ],
    ids=[
        "fewest",
        "near",
        "id",
        "resting",
        "rested",
        "other engine",
        "told otherwise",
        "shorter queue",
        "equal queues",
        "opened since the report",
        "smaller share",
        "near but full",
        "near but failing",
    ],
)
def test_the_choice(views, expected):
    assert chosen(views) == expected


def test_a_kind_goes_to_who_is_known_to_serve_it_first():
    asked, unasked = view(1, offers=("silero", "vad"), streams=9), view(2)
    assert chosen([asked, unasked], "vad") == "r-1"
    assert chosen([unasked], "vad") == "r-2"
    assert chosen([view(3, offers=("espeak", "tts"))], "vad").offered is False


def test_excluded_replicas_are_not_chosen():
    assert chosen([view(1), view(2)], excluded=("r-1",)) == "r-2"


def test_it_says_why_there_is_none_and_when_to_ask_again():
    none = chosen([])
    assert (none.reason, none.offered) == ("no replica is known", False)
    other = chosen([view(1, engines=("espeak",))])
    assert (other.reason, other.offered) == ("none of 1 replicas offers it", False)
    resting = chosen([view(1, rests_until_s=12.0), view(2, rests_until_s=11.0)])
    assert (resting.offered, resting.retry_at_s) == (True, 11.0)
    refused = chosen([view(1)], excluded=("r-1",))
    assert (refused.offered, refused.retry_at_s) == (True, None)
    assert "1 refused" in refused.reason


def test_a_call_stays_together_but_not_on_a_full_replica():
    near, far = view(1, node="here"), view(2)
    assert chosen([near, far], near=("r-2",)) == "r-2"
    full = view(2, load=Load(9, 9, 0.0))
    assert chosen([near, full], near=("r-2",)) == "r-1"


def test_a_full_replica_is_still_asked_where_there_is_no_other():
    assert chosen([view(1, load=Load(9, 9, 0.0))]) == "r-1"


def test_hosts_that_choose_by_the_same_reports_do_not_all_choose_the_same():
    views = [view(n, load=Load(n, 100, 0.0)) for n in range(10)]
    chosen_by = Counter(chosen(views, rng=random.Random(host)) for host in range(300))
    # The least loaded one is in a fifth of all pairs; the fullest loses every comparison.
    assert 30 <= chosen_by["r-0"] <= 90
    assert chosen_by["r-9"] == 0
    assert len(chosen_by) >= 8
