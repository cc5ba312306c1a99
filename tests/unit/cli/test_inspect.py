"""The inspecting commands against the real API server, whose answers a test chooses."""

import json
import os
import time

import click
import pytest
from aiohttp import web

from voxray.base.lifecycle import LoopThread
from voxray.base.settings import HttpSettings
from voxray.cli import main
from voxray.cli.main import run
from voxray.cli.options import complete_jobs
from voxray.cli.run_files import RunFile, write_run_file
from voxray.dispatcher.events_log import EventsLog
from voxray.dispatcher.health import DispatcherApi
from voxray.observability.events import TurnDone

STATUS = {
    "dispatchers": [
        {
            "app": "demo",
            "pid": 10,
            "node": "n" * 56,
            "state": "running",
            "registered": True,
            "worker_id": "AW_1",
            "slots": 24,
            "used": 1,
            "reserved": 0,
            "load": 0.02875,
        }
    ],
    "hosts": [
        {
            "id": "aabbccdd",
            "pid": 11,
            "node": "n" * 56,
            "state": "ready",
            "capacity": 12,
            "loop_lag_s": 0.0,
            "metrics": "127.0.0.1:2",
            "jobs": [
                {
                    "id": "AJ_one",
                    "room": "[bold]room[/bold]",
                    "state": "running",
                    "generation": 2,
                    "seconds": 12.345,
                }
            ],
        }
    ],
    "groups": [
        {"name": "speech", "ready": 1, "wanted": 1, "reason": ""},
        {
            "name": "ears",
            "ready": 4,
            "wanted": 5,
            "reason": "ears-5 waits for 0.5 GPU: 0 of 2 free",
        },
    ],
    "replicas": [
        {
            "id": "speech-0",
            "group": "speech",
            "engines": ["silero", "espeak"],
            "pid": None,
            "node": "",
            "state": "starting",
            "reason": "its engines are being loaded",
            "device": "",
            "streams": 0,
            "queue_s": 0.0,
            "metrics": "",
        }
    ],
    "waiting_jobs": [
        {"id": "AJ_two", "room": "r", "state": "resuming", "generation": 3, "seconds": 1}
    ],
}
STORY = [
    {
        "at": 1_800_000_000.5,
        "from_state": None,
        "to_state": "offered",
        "cause": "availability request",
        "host_id": None,
        "generation": 0,
    }
]


JOBS = [
    {
        "id": f"AJ_{name}",
        "room": "r",
        "state": state,
        "outcome": outcome,
        "generation": 1,
        "host_id": None,
        "seconds": 2.0,
        "cause": "its audio is published",
    }
    for name, state, outcome in (
        ("one", "running", None),
        ("two", "resuming", None),
        ("three", "ended", "success"),
    )
]


class Source:
    """Answers what the dispatcher would."""

    def __init__(self):
        self.drains = []

    def status(self):
        return STATUS

    def story(self, job_id):
        return STORY if job_id == "AJ_one" else None

    def jobs(self):
        return JOBS

    def drain(self, timeout_s):
        self.drains.append(timeout_s)


class Api:
    """The API server on a thread of its own, and its run file."""

    def __init__(self, *, host="127.0.0.1", token="t0ken"):
        self.source = Source()
        self.thread = LoopThread("api")
        self.thread.call(self._start(host, token), 10)
        self.url = f"http://127.0.0.1:{self.port}"

    async def _start(self, host, token):
        settings = HttpSettings(host=host, port=0)
        self.log = EventsLog()
        self.server = DispatcherApi(settings, self.source, self.log, token=token)
        self.port = await self.server.start()

    def close(self):
        self.thread.call(self.server.aclose(), 10)
        self.thread.stop()


@pytest.fixture(autouse=True)
def environment(tmp_path, monkeypatch):
    monkeypatch.setenv("VOXRAY_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("VOXRAY_API", "VOXRAY_APP"):
        monkeypatch.delenv(name, raising=False)
    # A proxy that answers nobody: the API must be asked without it.
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")


@pytest.fixture
def api():
    server = Api()
    write_run_file(RunFile(app="demo", api=server.url, pid=os.getpid(), token="t0ken"))
    yield server
    server.close()


def test_status_for_people(api, capsys):
    assert run(["status"]) == 0
    out = capsys.readouterr().out
    for text in ("demo", "running", "registered", "1 of 24", "0.03"):
        assert text in out
    for text in ("aabbccdd", "ready", "AJ_one", "[bold]room[/bold]", "12.3 s", "nnnnnnnn "):
        assert text in out
    for text in ("speech-0", "silero, espeak", "starting: its engines are being loaded"):
        assert text in out
    assert "AJ_two" in out
    assert "\ngroup ears: 4 of 5 replicas; ears-5 waits for 0.5 GPU: 0 of 2 free\n" in out
    assert "group speech" not in out


def test_status_for_scripts_is_what_the_api_says(api, capsys):
    assert run(["status", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == STATUS
    assert captured.err == ""


def test_an_empty_app(api, capsys, monkeypatch):
    monkeypatch.setattr(Source, "status", lambda _: {})
    assert run(["status"]) == 0
    assert "Hosts: none" in capsys.readouterr().out


def test_jobs(api, capsys):
    assert run(["jobs"]) == 0
    out = capsys.readouterr().out
    for text in ("AJ_one", "AJ_two", "AJ_three", "ended", "success", "its audio is published"):
        assert text in out
    assert run(["jobs", "--json", "--limit", "2"]) == 0
    assert json.loads(capsys.readouterr().out) == {"jobs": JOBS[:2]}


def test_a_story_by_the_beginning_of_its_id(api, capsys):
    assert run(["story", "AJ_o", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["job"] == "AJ_one"
    assert run(["story", "AJ_t"]) == 2
    error = capsys.readouterr().err
    assert "job AJ_t may be AJ_two, AJ_three; give more of its id" in error


def test_job_ids_are_completed(api):
    command = main.cli.get_command(click.Context(main.cli), "story")
    ctx = click.Context(command)
    ctx.params = {"app": "demo", "api": None}
    found = complete_jobs(ctx, command.params[0], "AJ_t")
    assert [(each.value, each.help) for each in found] == [
        ("AJ_two", "resuming in r"),
        ("AJ_three", "ended in r"),
    ]


def test_top_prints_once_without_a_terminal(api, capsys):
    api.log.emit(
        TurnDone(job_id="AJ_one", room="r", agent="a", number=1, stages={"e2e": 0.75}, at=1.0)
    )
    assert run(["top"]) == 0
    out = capsys.readouterr().out
    for text in ("demo: running", "1 + 0 reserved of 24 slots", "p95 750 ms of 1", "AJ_two"):
        assert text in out
    assert "[bold]room[/bold]" not in out
    assert run(["top", "--once", "--rooms"]) == 0
    assert "[bold]room[/bold]" in capsys.readouterr().out
    assert run(["top", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["turns"] == {"count": 1, "p50_s": 0.75, "p95_s": 0.75}
    assert [call["id"] for call in shown["calls"]] == ["AJ_one", "AJ_two"]


def test_a_drain_can_be_waited_for(api, capsys, monkeypatch):
    looks = []

    def status(_):
        looks.append(1)
        state = "draining" if len(looks) < 3 else "drained"
        return STATUS | {"dispatchers": [{"state": state}]}

    monkeypatch.setattr(Source, "status", status)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    assert run(["drain", "--wait", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"state": "drained"}
    assert len(looks) == 3


def test_a_drain_that_fails_is_told(api, capsys, monkeypatch):
    monkeypatch.setattr(Source, "status", lambda _: {"dispatchers": [{"state": "failed"}]})
    assert run(["drain", "--wait"]) == 1
    assert "the app failed while it drained" in capsys.readouterr().err


def test_story(api, capsys):
    assert run(["story", "AJ_one"]) == 0
    out = capsys.readouterr().out
    for text in ("Story of AJ_one", "offered", "availability request"):
        assert text in out
    assert run(["story", "AJ_one", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"job": "AJ_one", "story": STORY}


@pytest.mark.parametrize("job", ["AJ_none", "../status", "a b%2f"])
def test_the_story_of_an_unknown_job(api, capsys, job):
    assert run(["story", job]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"voxray: error: job {job} is unknown to the dispatcher at {api.url}")


@pytest.mark.parametrize(
    ("arguments", "drained"), [([], None), (["--deadline", "5"], 5.0), (["--deadline", "0"], 0.0)]
)
def test_drain(api, capsys, arguments, drained):
    assert run(["drain", *arguments]) == 0
    assert api.source.drains == [drained]
    assert "draining" in capsys.readouterr().err


def test_nothing_runs(capsys):
    assert run(["status"]) == 2
    assert "no app runs on this machine; start one with `voxray start" in capsys.readouterr().err


def test_several_run(api, capsys, monkeypatch):
    write_run_file(RunFile(app="other", api="http://127.0.0.1:9", pid=None, token=""))
    assert run(["status"]) == 2
    assert "(demo, other): name one with --app" in capsys.readouterr().err
    assert run(["status", "--app", "demo"]) == 0
    monkeypatch.setenv("VOXRAY_APP", "demo")
    assert run(["status"]) == 0
    assert run(["status", "--app", "third"]) == 2
    assert "app 'third' does not run" in capsys.readouterr().err


def test_the_address_can_be_given(api, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("VOXRAY_HOME", str(tmp_path / "empty"))
    assert run(["status", "--json", "--api", f"{api.url}/"]) == 0
    monkeypatch.setenv("VOXRAY_API", api.url)
    assert run(["status", "--json"]) == 0
    # A name on the command line means that app, whatever the shell's variable says.
    assert run(["status", "--app", "demo"]) == 2
    assert "app 'demo' does not run on this machine" in capsys.readouterr().err
    assert run(["status", "--api", "http://127.0.0.1:9"]) == 1
    assert "no dispatcher answers at http://127.0.0.1:9 (connection refused)" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("address", ["127.0.0.1:8081", "ftp://a", "http://", "http://a:b", "x"])
def test_an_address_that_is_none(address, capsys):
    assert run(["status", "--api", address]) == 2
    assert "--api: must look like http://host:8081" in capsys.readouterr().err


def test_beyond_loopback_the_token_is_asked_for(capsys):
    server = Api(host="0.0.0.0")
    try:
        assert run(["status", "--api", server.url]) == 2
        error = capsys.readouterr().err
        assert "refuses the token" in error
        port = server.port
        assert run(["status", "--json", "--api", f"http://voxray:t0ken@127.0.0.1:{port}"]) == 0
        assert run(["status", "--api", f"http://voxray:wr0ng@127.0.0.1:{port}"]) == 2
        assert "wr0ng" not in capsys.readouterr().err
        write_run_file(RunFile(app="demo", api=server.url, pid=None, token="t0ken"))
        assert run(["status", "--json"]) == 0
    finally:
        server.close()


@pytest.mark.parametrize(
    ("status", "text"),
    [(200, "OK"), (200, "[]"), (200, "\xff"), (404, "<h1>Not here</h1>"), (501, "[]")],
)
def test_what_answers_is_something_else(status, text, capsys):
    async def serve():
        app = web.Application()
        app.add_routes([web.get("/status", handle)])
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    async def handle(_):
        return web.Response(status=status, body=text.encode("latin-1"))

    thread = LoopThread("other")
    runner = thread.call(serve(), 10)
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        assert run(["status", "--api", url]) == 1
        said = f" (status {status})" if status != 200 else ""
        assert capsys.readouterr().err == (
            f"voxray: error: what answers at {url} is no voxray dispatcher{said}\n"
        )
    finally:
        thread.call(runner.cleanup(), 10)
        thread.stop()
