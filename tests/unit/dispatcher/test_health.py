"""The dispatcher's HTTP API over a real socket: answers, errors, access, ports."""

import asyncio
import json
import socket
from contextlib import asynccontextmanager

import aiohttp
import pytest
from livekit.protocol import agent
from prometheus_client import CollectorRegistry, Gauge

from voxray.base.errors import CapacityError, ConfigError, ConnectionFailedError, PortTakenError
from voxray.base.ids import HostId, JobId
from voxray.base.settings import HttpSettings
from voxray.dispatcher.events_log import EventsLog
from voxray.dispatcher.health import DispatcherApi, ScrapeTarget, WorkerSummary
from voxray.observability.events import HostStarting, TurnDone
from voxray.observability.exporter import render

TOKEN = "token-of-the-app"


class Source:
    def __init__(self):
        self.sick = ""
        self.busy = ""
        self.fault = None
        self.drains = []
        self.registry = CollectorRegistry()
        Gauge("voxray_up", "Up.", registry=self.registry).set(1)

    def unhealthy(self):
        return self.sick

    def unready(self):
        return self.busy

    def worker(self):
        return WorkerSummary(
            agent_name="desk",
            worker_type=agent.JobType.JT_ROOM,
            active_jobs=2,
            sdk_version="1.8.9",
            load=0.5,
        )

    def metrics(self, accept):
        return render(self.registry, accept)

    def scrape_targets(self):
        return [ScrapeTarget(address="127.0.0.1:9001", labels={"kind": "host"})]

    def status(self):
        if self.fault:
            raise self.fault
        return {"dispatchers": [], "hosts": [], "replicas": []}

    def story(self, job_id):
        return [{"at": 1.0, "cause": "offered"}] if job_id == "AJ_1" else None

    def jobs(self):
        return [{"id": "AJ_1", "state": "running"}]

    async def simulate(self, room, identity):
        if room == "closed":
            raise ConnectionFailedError("livekit can't be reached")
        return f"job-{identity}"

    def drain(self, timeout_s):
        self.drains.append(timeout_s)


class Api:
    def __init__(self, session, port, source, log):
        self.session = session
        self.url = f"http://127.0.0.1:{port}"
        self.port = port
        self.source = source
        self.log = log

    async def get(self, path, **options):
        return await self.request("GET", path, **options)

    async def request(self, method, path, **options):
        async with self.session.request(method, self.url + path, **options) as response:
            body = await response.read()
            is_json = response.content_type == "application/json"
            return response.status, json.loads(body) if is_json else body.decode()


@asynccontextmanager
async def serving(host="127.0.0.1", token=TOKEN):
    source, log = Source(), EventsLog()
    server = DispatcherApi(HttpSettings(host=host, port=0), source, log, token=token)
    port = await server.start()
    try:
        async with aiohttp.ClientSession() as session:
            yield Api(session, port, source, log)
    finally:
        await server.aclose()


@pytest.fixture
async def api():
    async with serving() as api:
        yield api


async def test_health_as_the_stock_worker_gives_it(api):
    assert await api.get("/") == (200, "OK")
    assert await api.get("/healthz") == (200, "OK")
    api.source.sick = "failed to connect to livekit"
    assert await api.get("/") == (503, "failed to connect to livekit")
    assert await api.get("/readyz") == (200, "OK")
    api.source.busy = "no session host is ready"
    assert await api.get("/readyz") == (503, "no session host is ready")


async def test_worker_as_the_stock_worker_gives_it(api):
    status, worker = await api.get("/worker")
    assert status == 200
    assert worker == {
        "worker_type": "JT_ROOM",
        "agent_name": "desk",
        "active_jobs": 2.0,
        "sdk_version": "1.8.9",
        "worker_load": 0.5,
        "protocol_version": 1,
    }


async def test_metrics_in_the_format_that_is_asked_for(api):
    async with api.session.get(f"{api.url}/metrics") as response:
        assert response.content_type == "text/plain"
        assert "voxray_up 1.0" in await response.text()
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    async with api.session.get(f"{api.url}/metrics", headers=accept) as response:
        assert response.content_type == "application/openmetrics-text"
        assert (await response.text()).endswith("# EOF\n")


async def test_service_discovery(api):
    expected = [{"targets": ["127.0.0.1:9001"], "labels": {"kind": "host"}}]
    assert await api.get("/sd") == (200, expected)


async def test_status_and_stories(api):
    status, content = await api.get("/status")
    assert (status, set(content)) == (200, {"dispatchers", "hosts", "replicas"})
    story = {"job": "AJ_1", "story": [{"at": 1.0, "cause": "offered"}]}
    assert await api.get("/jobs/AJ_1/story") == (200, story)
    status, content = await api.get("/jobs/AJ_9/story")
    assert status == 404
    assert "AJ_9 is unknown" in content["error"]


async def test_turns_of_a_room(api):
    for room in ("a", "b"):
        api.log.emit(TurnDone(job_id=JobId("AJ"), room=room, agent="", number=1, stages={"e2e": 1}))
    status, turns = await api.get("/turns?room=b")
    assert status == 200
    assert [(turn["room"], turn["number"], turn["stages"]) for turn in turns] == [
        ("b", 1, {"e2e": 1})
    ]
    assert len((await api.get("/turns"))[1]) == 2
    assert (await api.get(f"/turns?after={turns[0]['cursor']}"))[1] == []


async def test_events_by_long_poll(api):
    api.log.emit(HostStarting(host_id=HostId("h1")))
    status, page = await api.get("/events?after=0&wait=30")
    assert (status, page["cursor"]) == (200, 1)
    assert page["events"][0]["type"] == "HostStarting"
    assert (await api.get("/events?after=1"))[1] == {"cursor": 1, "events": []}
    poll = asyncio.create_task(api.get("/events?after=1&wait=30"))
    await api.get("/healthz")  # By now the poll has been read.
    api.log.emit(HostStarting(host_id=HostId("h2")))
    _, page = await poll
    assert [event["host_id"] for event in page["events"]] == ["h2"]


async def test_jobs(api):
    assert await api.get("/jobs") == (200, {"jobs": [{"id": "AJ_1", "state": "running"}]})


async def test_a_simulated_job(api):
    body = {"room": "lobby", "identity": "me"}
    assert await api.request("POST", "/jobs", json=body) == (202, {"job": "job-me"})
    status, answer = await api.request("POST", "/jobs", json={"room": "closed"})
    assert (status, answer) == (503, {"error": "livekit can't be reached"})


@pytest.mark.parametrize(
    "body", [{}, {"room": ""}, {"room": 3}, {"room": "r", "identity": 3}, {"room": "r", "x": 1}]
)
async def test_a_bad_simulated_job_is_refused(api, body):
    assert (await api.request("POST", "/jobs", json=body))[0] == 400


async def test_drain(api):
    for body, timeout_s in ((None, None), ({}, None), ({"deadline_s": 2.5}, 2.5)):
        status, answer = await api.request("POST", "/drain", json=body)
        assert (status, answer) == (202, {"state": "draining"}), body
        assert api.source.drains.pop() == timeout_s


@pytest.mark.parametrize(
    "body",
    [
        "{",
        "[1]",
        '"x"',
        '{"deadline": 1}',
        '{"deadline_s": -1}',
        '{"deadline_s": "soon"}',
        '{"deadline_s": true}',
        '{"deadline_s": NaN}',
        '{"deadline_s": [1]}',
        "\udcff",
    ],
)
async def test_a_bad_drain_is_refused(api, body):
    status, answer = await api.request("POST", "/drain", data=body.encode(errors="surrogateescape"))
    assert status == 400
    assert answer["error"]
    assert api.source.drains == []


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/events?after=x", "after must be"),
        ("/events?after=-1", "after must be"),
        ("/events?after=" + "9" * 5000, "after must be"),
        ("/events?after=²", "after must be"),
        ("/events?wait=soon", "wait must be"),
        ("/events?wait=nan", "wait must be"),
        ("/events?wait=inf", "wait must be"),
        ("/events?wait=-1", "wait must be"),
        ("/events?since=1", "unknown parameter: since; /events takes after, wait"),
        ("/turns?after=", "after must be"),
        ("/turns?name=x", "unknown parameter: name"),
    ],
)
async def test_bad_parameters_are_named(api, path, error):
    status, answer = await api.get(path)
    assert status == 400
    assert error in answer["error"]


async def test_unknown_paths_and_methods_are_json_errors(api):
    assert await api.get("/nope") == (404, {"error": "there is no /nope here"})
    status, answer = await api.request("DELETE", "/status")
    assert status == 405
    assert answer == {"error": "/status takes GET, HEAD, not DELETE"}
    assert (await api.get("/drain"))[0] == 405
    assert (await api.get("/%2e%2e/%00"))[0] == 404


async def test_a_fault_of_ours_is_an_error_without_its_traceback(api, caplog):
    api.source.fault = ZeroDivisionError("inside")
    status, answer = await api.get("/status")
    assert status == 500
    assert "inside" not in answer["error"]
    assert "request failed" in caplog.messages
    api.source.fault = CapacityError("nothing is ready")
    assert await api.get("/status") == (503, {"error": "nothing is ready"})


async def test_random_bytes_on_the_port_disturb_nobody(api):
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(bytes(range(256)) * 10 + b"\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.0 400")
    writer.close()
    await writer.wait_closed()
    assert await api.get("/") == (200, "OK")


async def test_on_loopback_no_token_is_asked_for_but_pages_are_kept_out(api):
    assert (await api.get("/status"))[0] == 200
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Host": "[:8081"},
        {"Host": "evil.example:8081"},
    ):
        status, _ = await api.request("POST", "/drain", headers=headers)
        assert status == 401, headers
    for host in ("localhost:8081", "[::1]:8081", "127.0.0.1", "[::1]"):
        assert (await api.get("/status", headers={"Host": host}))[0] == 200, host
    own = {"Origin": api.url, "Sec-Fetch-Site": "same-origin"}
    assert (await api.get("/status", headers=own))[0] == 200
    assert api.source.drains == []
    bearer = {"Authorization": f"Bearer {TOKEN}", "Origin": "http://evil.example"}
    assert (await api.request("POST", "/drain", headers=bearer))[0] == 202


async def test_no_route_but_health_answers_others_without_the_token():
    source, log = Source(), EventsLog()
    server = DispatcherApi(HttpSettings(host="0.0.0.0", port=0), source, log, token=TOKEN)
    port = await server.start()
    routes = {(each.method, each.path.format(job_id="AJ_1")) for each in server._routes()}
    assert len(routes) > 8
    try:
        async with aiohttp.ClientSession() as session:
            for method, path in routes:
                for given in (
                    {},
                    {"Authorization": "Bearer "},
                    {"Authorization": f"Bearer {TOKEN}x"},
                ):
                    async with session.request(
                        method, f"http://127.0.0.1:{port}{path}", headers=given
                    ) as response:
                        healthy = path in {"/", "/healthz", "/readyz"}
                        assert response.status == (200 if healthy else 401), (method, path)
    finally:
        await server.aclose()
    assert source.drains == []


async def test_beyond_loopback_everything_but_health_needs_the_token():
    async with serving("0.0.0.0") as api:
        for path in ("/", "/healthz", "/readyz"):
            assert (await api.get(path))[0] == 200
        for path in ("/worker", "/metrics", "/sd", "/status", "/jobs/AJ_1/story", "/turns", "/x"):
            for headers in ({}, {"Authorization": "Bearer no"}, {"Authorization": "Bearer ä"}):
                status, answer = await api.get(path, headers=headers)
                assert status == 401, path
                assert "token" in answer["error"]
        assert (await api.request("POST", "/drain"))[0] == 401
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        assert (await api.get("/status", headers=bearer))[0] == 200


async def test_an_open_door_without_a_token_is_no_start():
    api = DispatcherApi(HttpSettings(host="0.0.0.0", port=0), Source(), EventsLog())
    with pytest.raises(ConfigError, match="no token"):
        await api.start()


async def test_a_taken_port_says_what_to_do():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        api = DispatcherApi(HttpSettings(port=port), Source(), EventsLog())
        with pytest.raises(PortTakenError) as raised:
            await api.start()
    expected = f"port {port} on 127.0.0.1 is in use; set http.port (0 takes a free one)"
    assert str(raised.value) == expected
    await api.aclose()


async def test_an_address_of_another_machine_is_a_config_error():
    api = DispatcherApi(HttpSettings(host="192.0.2.1", port=0), Source(), EventsLog(), token=TOKEN)
    with pytest.raises(ConfigError, match=r"can't listen on port 0 of 192\.0\.2\.1"):
        await api.start()


async def test_close_is_idempotent_safe_before_start_and_ends_long_polls():
    api = DispatcherApi(HttpSettings(port=0), Source(), EventsLog())
    await api.aclose()
    log = EventsLog()
    api = DispatcherApi(HttpSettings(port=0), Source(), log)
    port = await api.start()
    async with aiohttp.ClientSession() as session:
        poll = asyncio.create_task(session.get(f"http://127.0.0.1:{port}/events?wait=60"))
        async with session.get(f"http://127.0.0.1:{port}/healthz"):
            pass
        await api.aclose()
        await api.aclose()
        async with await poll as response:
            assert (await response.json())["events"] == []
