import json
import os
import socket
import time

import pytest
from aiohttp import web

from voxray.base.lifecycle import LoopThread
from voxray.base.settings import HttpSettings, LiveKitSettings, Settings
from voxray.cli import checks, doctor, livekit_check
from voxray.cli.checks import Level
from voxray.cli.livekit_check import check_livekit
from voxray.cli.main import run


@pytest.fixture(autouse=True)
def environment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(("LIVEKIT_", "VOXRAY_", "RAY_")):
            monkeypatch.delenv(name)


def level_and_text(result):
    return result.level, f"{result.found} -> {result.remedy}"


def test_this_interpreter_and_these_packages_are_fine():
    assert checks.check_python().level is Level.OK
    assert checks.check_packages().level is Level.OK


def test_an_untested_interpreter(monkeypatch):
    monkeypatch.setattr("sys.version_info", (3, 10, 1))
    level, text = level_and_text(checks.check_python())
    assert level is Level.FAILED
    assert "3.10.1" in text
    assert "3.11, 3.12 or 3.13" in text


def test_packages_of_other_versions(monkeypatch):
    wanted = ["rich<1", "no-such-package>=1", 'ray>9; python_version < "3"', "click>=8"]
    monkeypatch.setattr(checks, "requires", lambda _: wanted)
    level, text = level_and_text(checks.check_packages())
    assert level is Level.FAILED
    assert "rich " in text
    assert " is not <1" in text
    assert "no-such-package is missing" in text
    assert "ray 2" not in text
    assert "click" not in text


def test_ray_imports():
    assert checks.check_ray().level is Level.OK


def test_a_part_that_crashes_or_hangs_is_a_fault_not_a_crash(monkeypatch):
    assert "ended with status -11" in checks._try_in_child("import os; os.kill(os.getpid(), 11)")
    assert checks._try_in_child("raise ValueError('broken')") == "ValueError: broken"
    monkeypatch.setattr(checks, "_CHILD_DEADLINE_S", 0.1)
    assert "no answer" in checks._try_in_child("import signal; signal.pause()")


def test_variables_that_take_from_ray_what_calls_need():
    assert checks.check_ray_environment({"RAY_worker_niceness": "0"}).level is Level.OK
    level, text = level_and_text(checks.check_ray_environment({"RAY_worker_niceness": "15"}))
    assert level is Level.WARNING
    assert "RAY_worker_niceness=15 (should be 0)" in text


def test_an_engine_that_loads_and_one_that_is_none():
    assert checks.check_engine("scripted").level is Level.OK
    level, text = level_and_text(checks.check_engine("nonsense"))
    assert level is Level.FAILED
    assert "no engine is called 'nonsense'" in text
    assert "Traceback" not in text


@pytest.mark.parametrize("url", ["", "ws://127.0.0.1:9"])
def test_neither_livekit_server_nor_go(tmp_path, url):
    environment = {"PATH": str(tmp_path), "VOXRAY_HOME": str(tmp_path), "LIVEKIT_URL": url}
    level, text = level_and_text(checks.check_livekit_server(environment))
    # A server elsewhere is enough to run agents.
    assert level is (Level.WARNING if url else Level.FAILED)
    assert "-> put livekit-server on the PATH" in text


def test_a_livekit_server_and_a_go_that_could_build_one(tmp_path):
    program = tmp_path / "livekit-server"
    program.write_text("#!/bin/sh\necho livekit-server version 1.13.5\n")
    program.chmod(0o755)
    environment = {"PATH": str(tmp_path), "VOXRAY_HOME": str(tmp_path)}
    assert level_and_text(checks.check_livekit_server(environment)) == (
        Level.OK,
        f"{program} (1.13.5) -> ",
    )
    program.write_text("#!/bin/sh\necho go version go1.26.0 linux/amd64\n")
    program.rename(tmp_path / "go")
    level, text = level_and_text(checks.check_livekit_server(environment))
    assert level is Level.OK
    assert "builds 1.13.5 with" in text


def test_a_taken_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        level, text = level_and_text(checks.check_port(Settings(http=HttpSettings(port=port))))
    assert level is Level.WARNING
    assert f"127.0.0.1:{port} can't be used: " in text
    assert "--http-port" in text
    assert checks.check_port(Settings(http=HttpSettings(port=0))).level is Level.OK


def test_shared_memory(tmp_path, monkeypatch):
    assert "none" in checks.check_shared_memory(tmp_path / "none").found
    monkeypatch.setattr(checks, "_SMALLEST_SHARED_MEMORY", 2**80)
    assert checks.check_shared_memory(tmp_path).level is Level.WARNING
    monkeypatch.setattr(checks, "_SMALLEST_SHARED_MEMORY", 1)
    assert checks.check_shared_memory(tmp_path).level is Level.OK


@pytest.mark.parametrize(
    ("limit", "level"), [(1024, Level.WARNING), (65536, Level.OK), (-1, Level.OK)]
)
def test_open_files(monkeypatch, limit, level):
    monkeypatch.setattr("resource.getrlimit", lambda _: (limit, limit))
    assert checks.check_open_files().level is level


def livekit(server, secret=None):
    return LiveKitSettings(
        url=server.url, api_key=server.api_key, api_secret=secret or server.api_secret
    )


def test_a_real_livekit_server_takes_the_right_keys_only(livekit_server):
    answers, clock = check_livekit(livekit(livekit_server))
    assert level_and_text(answers)[0] is Level.OK
    assert "agrees with LiveKit's" in clock.found
    answers, _ = check_livekit(livekit(livekit_server, secret="wrong"))
    level, text = level_and_text(answers)
    assert level is Level.FAILED
    assert "refuses the keys" in text
    assert "LIVEKIT_API_SECRET" in text


def test_a_clock_that_livekit_does_not_share(livekit_server, monkeypatch):
    now = time.time
    monkeypatch.setattr(livekit_check.time, "time", lambda: now() + 100)
    _, clock = check_livekit(livekit(livekit_server))
    assert clock.level is Level.FAILED
    assert "differs from LiveKit's by +" in clock.found
    monkeypatch.setattr(livekit_check.time, "time", lambda: 0.0)
    assert "behind the date" in check_livekit(LiveKitSettings())[1].found


def test_no_livekit_settings_are_no_failure_but_half_of_them_are():
    assert check_livekit(LiveKitSettings())[0].level is Level.WARNING
    level, text = level_and_text(check_livekit(LiveKitSettings(url="ws://127.0.0.1:9"))[0])
    assert level is Level.FAILED
    assert "LIVEKIT_API_KEY" in text


def test_a_livekit_that_does_not_answer():
    settings = LiveKitSettings(url="ws://127.0.0.1:9", api_key="k", api_secret="s")
    level, text = level_and_text(check_livekit(settings)[0])
    assert level is Level.FAILED
    assert "ws://127.0.0.1:9 does not answer" in text
    assert "LIVEKIT_URL" in text


def test_something_else_at_livekits_address():
    async def serve():
        runner = web.AppRunner(web.Application())
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    thread = LoopThread("other")
    runner = thread.call(serve(), 10)
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        settings = LiveKitSettings(url=url, api_key="k", api_secret="s")
        assert "answers with status 404" in check_livekit(settings)[0].found
    finally:
        thread.call(runner.cleanup(), 10)
        thread.stop()


@pytest.fixture
def few_checks(monkeypatch):
    def install(*results):
        monkeypatch.setattr(
            doctor, "_every_check", lambda _: [lambda result=each: result for each in results]
        )

    return install


FINE = checks.Result(name="fine", level=Level.OK, found="here")
SO_SO = checks.Result(name="so so", level=Level.WARNING, found="small", remedy="more")
BAD = checks.Result(name="bad", level=Level.FAILED, found="missing", remedy="install it")


@pytest.mark.parametrize(
    ("results", "status"), [((FINE, SO_SO), 0), ((FINE, BAD), 1), (((FINE, BAD), SO_SO), 1)]
)
def test_the_exit_code_says_whether_something_is_missing(few_checks, capsys, results, status):
    few_checks(*results)
    assert run(["doctor"]) == status
    out = capsys.readouterr().out
    assert "fine" in out
    assert ("-> install it" in out) == bool(status)


def test_json_has_every_check_in_order(few_checks, capsys):
    few_checks(FINE, (SO_SO, BAD))
    assert run(["doctor", "--json"]) == 1
    captured = capsys.readouterr()
    answer = json.loads(captured.out)
    assert answer["ok"] is False
    assert [each["name"] for each in answer["checks"]] == ["fine", "so so", "bad"]
    assert answer["checks"][2] == {
        "name": "bad",
        "level": "failed",
        "found": "missing",
        "remedy": "install it",
    }


def test_broken_settings_are_a_finding(few_checks, capsys, tmp_path):
    (tmp_path / "voxray.yaml").write_text("http: {port: x}\n")
    few_checks(FINE)
    assert run(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "voxray.yaml: http.port" in out
    assert "fine" in out


def test_every_engine_of_the_settings_is_checked():
    def engines(settings):
        every = doctor._every_check(settings)
        return [each.args for each in every if getattr(each, "func", None) is checks.check_engine]

    assert engines(Settings()) == [("espeak", "{}"), ("pocketsphinx", "{}"), ("silero", "{}")]
    group = {"name": "own", "engines": ["scripted"], "engine_settings": {"scripted": {"rate": 1}}}
    settings = Settings.model_validate({"inference": {"groups": [group, {**group, "name": "b"}]}})
    assert engines(settings) == [("scripted", '{"rate": 1}')]


def test_an_engine_is_checked_with_its_settings():
    level, text = level_and_text(checks.check_engine("scripted", '{"nonsense": 1}'))
    assert level is Level.FAILED
    assert "unexpected keyword argument 'nonsense'" in text
