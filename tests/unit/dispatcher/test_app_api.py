"""Whichever dispatcher is asked over HTTP answers for the whole app."""

import aiohttp
import pytest

from tests.unit.dispatcher.test_health import Source
from voxray.base.settings import HttpSettings
from voxray.dispatcher.events_log import EventsLog
from voxray.dispatcher.fleet import DispatcherEndedError
from voxray.dispatcher.health import DispatcherApi
from voxray.dispatcher.peers import Peers


class TwoSource(Source):
    def status(self):
        return page(0, "running")

    def jobs(self):
        return [{"id": "AJ_1"}]


def page(index, state):
    return {
        "dispatchers": [{"app": "desk", "index": index, "state": state}],
        "hosts": [{"id": f"host-of-{index}"}],
        "replicas": [],
        "waiting_jobs": [],
    }


class Other:
    """Dispatcher 1, as Ray lets us ask it."""

    def __init__(self):
        self.asked = []
        self.there = True

    async def ask(self, index, question, argument):
        assert index == 1
        if not self.there:
            raise DispatcherEndedError("it has ended")
        self.asked.append((question, argument))
        return {
            "status": page(1, "running"),
            "targets": [{"targets": ["127.0.0.1:9009"], "labels": {"role": "dispatcher"}}],
            "story": [{"at": 2.0, "cause": "offered"}] if argument == "AJ_there" else None,
            "jobs": [{"id": "AJ_there"}],
            "drain": None,
        }[question]


class App:
    def __init__(self, session, url, source, other):
        self.session, self.url, self.source, self.other = session, url, source, other

    async def get(self, path):
        async with self.session.get(self.url + path) as response:
            return response.status, await response.json()


@pytest.fixture
async def app():
    source, other = TwoSource(), Other()
    server = DispatcherApi(
        HttpSettings(port=0), source, EventsLog(), token="t", peers=Peers((1,), other.ask)
    )
    url = f"http://127.0.0.1:{await server.start()}"
    async with aiohttp.ClientSession() as session:
        yield App(session, url, source, other)
    await server.aclose()


async def test_the_status_holds_all_dispatchers_and_their_hosts(app):
    _, status = await app.get("/status")
    assert [each["index"] for each in status["dispatchers"]] == [0, 1]
    assert [each["id"] for each in status["hosts"]] == ["host-of-0", "host-of-1"]
    app.other.there = False
    _, status = await app.get("/status")
    assert [each["state"] for each in status["dispatchers"]] == ["running", "ended"]


async def test_targets_and_jobs_are_those_of_all(app):
    _, targets = await app.get("/sd")
    assert [each["targets"] for each in targets] == [["127.0.0.1:9001"], ["127.0.0.1:9009"]]
    _, answer = await app.get("/jobs")
    assert answer["jobs"] == [{"id": "AJ_1"}, {"id": "AJ_there"}]


async def test_a_story_is_found_wherever_it_is(app):
    assert (await app.get("/jobs/AJ_1/story"))[1]["story"][0]["at"] == 1.0
    assert not app.other.asked, "ours is known without asking"
    assert (await app.get("/jobs/AJ_there/story"))[1]["story"][0]["at"] == 2.0
    assert (await app.get("/jobs/AJ_nowhere/story"))[0] == 404


@pytest.mark.parametrize(("body", "deadline"), [({}, None), ({"deadline_s": 7}, 7.0)])
async def test_a_drain_reaches_all(app, body, deadline):
    async with app.session.post(f"{app.url}/drain", json=body) as response:
        assert response.status == 202
    assert app.source.drains == [deadline]
    assert app.other.asked == [("drain", deadline)]
