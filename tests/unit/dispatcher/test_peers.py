"""Several dispatchers answer as one: merged pages, a mark on a silent one, one drain for all."""

import asyncio

import pytest

from tests.fakes.fleet import FakeFleet
from voxray.base.errors import ConnectionFailedError
from voxray.base.ids import HostId
from voxray.base.settings import InferenceSettings
from voxray.dispatcher import inputs as inp
from voxray.dispatcher import peers as peers_module
from voxray.dispatcher.merging import all_over, merge_status, merge_targets, state_of
from voxray.dispatcher.peer_watch import PeerWatch
from voxray.dispatcher.peers import PeerAnswer, Peers, Question
from voxray.dispatcher.phases import Phase, PhaseBoard
from voxray.observability import events as ev


def status(index, *, state="running", hosts=(), replicas=()):
    return {
        "dispatchers": [{"app": "desk", "index": index, "state": state}],
        "hosts": [{"id": each} for each in hosts],
        "replicas": [{"id": each, "seen_by": index} for each in replicas],
        "waiting_jobs": [],
    }


def answer(index, **fields):
    return PeerAnswer(index=index, content=status(index, **fields))


# --- pages -----------------------------------------------------------------------------------


def test_the_status_of_the_app_is_that_of_all_its_dispatchers_in_their_order():
    own = status(1, hosts=["1-a"], replicas=["speech-1"])
    merged = merge_status(own, [answer(0, hosts=["b"], replicas=["speech-1"]), answer(2)])
    assert [each["index"] for each in merged["dispatchers"]] == [0, 1, 2]
    assert [each["id"] for each in merged["hosts"]] == ["b", "1-a"]
    assert merged["replicas"] == [{"id": "speech-1", "seen_by": 0}]


def test_a_dispatcher_without_an_answer_is_marked():
    silent = PeerAnswer(index=1, fault="no answer within 2 s")
    gone = PeerAnswer(index=2, exists=False, fault="the app has no dispatcher-2")
    merged = merge_status(status(0), [silent, gone])
    shown = [(each["state"], each.get("reason")) for each in merged["dispatchers"]]
    assert shown == [
        ("running", None),
        ("unreachable", "no answer within 2 s"),
        ("ended", "the app has no dispatcher-2"),
    ]
    assert set(merged["dispatchers"][1]) >= {"pid", "slots", "used", "load", "registered"}


def test_every_process_is_scraped_once():
    replica = {"targets": ["r:1"], "labels": {"role": "replica"}}
    own = [{"targets": ["d:1"], "labels": {}}, replica]
    others = [
        PeerAnswer(index=1, content=[{"targets": ["e:1"], "labels": {}}, replica]),
        PeerAnswer(index=2, fault="silent"),
    ]
    assert [each["targets"] for each in merge_targets(own, others)] == [["d:1"], ["r:1"], ["e:1"]]


def test_only_what_has_ended_is_over():
    assert all_over([])
    assert all_over([answer(1, state="drained"), PeerAnswer(index=2, exists=False)])
    assert not all_over([answer(1, state="draining")])
    # Ray brings it back, with its calls.
    assert not all_over([PeerAnswer(index=1, fault="no answer")])
    assert state_of(PeerAnswer(index=1)) == "unreachable"


# --- asking ----------------------------------------------------------------------------------


async def test_each_is_asked_and_the_missing_are_told_apart():
    fleet = FakeFleet()
    fleet.dispatchers[1] = status(1)

    async def ask(index, question, argument):
        if index == 3:
            raise ConnectionFailedError("it hangs")
        return await fleet.ask_dispatcher(index, question, argument)

    peers = Peers((1, 2, 3), ask)
    first, second, third = await peers.ask(Question.STATUS)
    assert first.content == status(1)
    assert not second.exists
    assert (third.exists, third.content, third.fault) == (True, None, "it hangs")
    assert fleet.calls[0] == ("ask_dispatcher", 1, "status", None)


async def test_one_that_never_answers_costs_no_more_than_the_deadline(monkeypatch):
    monkeypatch.setattr(peers_module, "ASK_S", 0.01)

    async def ask(index, question, argument):
        await asyncio.Event().wait()

    (only,) = await Peers((1,), ask).ask(Question.STATUS)
    assert only.exists
    assert "no answer" in only.fault


# --- the watch of the first one --------------------------------------------------------------


class Watched:
    def __init__(self):
        self.fleet = FakeFleet()
        self.phases = PhaseBoard(InferenceSettings(groups=()))
        self.told = []
        self.drains = 0
        self.watch = PeerWatch(
            Peers((1,), self.fleet.ask_dispatcher),
            self.phases,
            tell=self.told.append,
            drain=self._drain,
            left_s=lambda: 12.5,
        )

    def _drain(self):
        self.drains += 1
        self.phases.draining()

    def run_phase(self):
        for event in (
            ev.WorkerRegistered(worker_id="AW_1", reconnect=False),
            ev.HostReady(host_id=HostId("aa"), seconds=1),
        ):
            self.phases.emit(event)
        assert self.phases.phase is Phase.RUNNING

    def orders(self):
        return [call for call in self.fleet.calls if call[2] == "drain"]


@pytest.fixture
def watched():
    return Watched()


async def test_what_is_seen_is_told(watched):
    watched.fleet.dispatchers[1] = status(1)
    await watched.watch.look()
    watched.fleet.dispatchers[1] = status(1, state="drained")
    await watched.watch.look()
    assert watched.told == [inp.PeersLooked(over=False), inp.PeersLooked(over=True)]


async def test_one_that_came_back_during_a_drain_is_told_of_it(watched):
    watched.fleet.dispatchers[1] = status(1)
    await watched.watch.look()
    assert not watched.orders()
    watched.phases.draining()
    await watched.watch.look()
    assert watched.orders() == [("ask_dispatcher", 1, "drain", 12.5)]
    watched.fleet.dispatchers[1] = status(1, state="draining")
    await watched.watch.look()
    assert len(watched.orders()) == 1


async def test_a_first_one_that_came_back_during_a_drain_drains_again(watched):
    watched.run_phase()
    watched.fleet.dispatchers[1] = status(1, state="draining")
    await watched.watch.look()
    assert not watched.drains, "a drain that has just begun reaches us as well"
    await watched.watch.look()
    await watched.watch.look()
    assert watched.drains == 1
