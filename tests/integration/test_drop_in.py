"""A program sees, and shows to its room, the same under voxray as under the stock worker."""

import asyncio

import pytest

from tests import clerk_scenes
from tests.drop_in import Production, differences, play

pytestmark = pytest.mark.timeout(400)

CLERK = Production(
    program="clerk.py",
    scenes=clerk_scenes.SCENES,
    closing=clerk_scenes.CLOSING,
    environment={"DROP_IN_OWN": "1"},
)
PUBLISHER = Production(program="publisher.py", scenes=clerk_scenes.PUBLISHER, proxied=True)
NIGHT = Production(
    program="night.py",
    scenes=clerk_scenes.NIGHT,
    environment={
        "LIVEKIT_AGENT_NAME_OVERRIDE": "night",
        "LIVEKIT_AGENT_DEPLOYMENT": "blue",
        "LIVEKIT_LOG_LEVEL": "WARN",
        "LIVEKIT_REGION_NAME": "north",
    },
)


@pytest.fixture(scope="module")
def clerk(tmp_path_factory):
    """The records of the clerk's scenes, by worker."""
    return asyncio.run(play(CLERK, tmp_path_factory.mktemp("clerk")))


@pytest.fixture(scope="module")
def publisher(tmp_path_factory):
    """The records of the publisher's scenes, by worker."""
    return asyncio.run(play(PUBLISHER, tmp_path_factory.mktemp("publisher")))


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """The records of the scenes at night, by worker."""
    return asyncio.run(play(NIGHT, tmp_path_factory.mktemp("night")))


# A program that failed to answer has not refused: the search for rooms without an agent asks it
# again, which a stock worker never does.
ASKED_AGAIN = {"no-answer", "request-raises"}


def compare(records, scene):
    stock, ours = records["stock"][scene], records["voxray"][scene]
    if scene in ASKED_AGAIN:
        ours = list(dict.fromkeys(ours))
    assert stock, "the scene was not played"
    assert not any("FAILED" in line for line in (*stock, *ours)), differences(stock, ours)
    assert not (diff := differences(stock, ours)), diff


@pytest.mark.parametrize("scene", [*clerk_scenes.SCENES, *clerk_scenes.CLOSING])
def test_a_named_agent(clerk, scene):
    compare(clerk, scene)


def test_worker_events(clerk):
    compare(clerk, "worker")


@pytest.mark.parametrize("scene", clerk_scenes.PUBLISHER)
def test_an_agent_for_publishers(publisher, scene):
    compare(publisher, scene)


def test_the_way_to_livekit_leads_through_the_proxy(publisher):
    passed = [set(publisher[worker]["proxy"]) for worker in ("stock", "voxray")]
    for paths in passed:
        assert "GET /agent" in paths
        assert "POST /twirp/livekit.RoomService/UpdateRoomMetadata" in paths


@pytest.mark.parametrize("scene", clerk_scenes.NIGHT)
def test_an_agent_that_the_environment_names(night, scene):
    compare(night, scene)
