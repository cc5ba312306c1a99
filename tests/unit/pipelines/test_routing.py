"""Which replica a stream goes to, and what is said when there is none."""

import pytest

from voxray.base.ids import ReplicaId
from voxray.pipelines.routing import NoReplica, Replica, ReplicaView, choose


def view(number, *, node="far", streams=0, offers=None, rests_until_s=0.0, engines=("silero",)):
    replica = Replica(
        replica_id=ReplicaId(f"r-{number}"), group="r", engines=engines, address="a", node=node
    )
    offers = None if offers is None else frozenset(offers)
    return ReplicaView(replica=replica, streams=streams, offers=offers, rests_until_s=rests_until_s)


def chosen(views, engine="silero", excluded=()):
    found = choose(views, engine, node="here", now_s=10.0, excluded=excluded)
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
    ],
    ids=["fewest", "near", "id", "resting", "rested", "other engine", "told otherwise"],
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
