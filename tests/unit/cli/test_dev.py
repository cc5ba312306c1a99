"""What `dev` watches, when it sees a change, and how it differs from `start`."""

import asyncio
import os
from dataclasses import replace

import click
import pytest

from voxray.cli import dev as module
from voxray.cli.main import cli
from voxray.cli.probe import probe_program
from voxray.cli.watch import changes, watched_folders

FLAGS = {
    parameter.name: None
    for parameter in cli.get_command(click.Context(cli), "dev").params
    if parameter.name not in {"program", "config", "reload"}
}
PROGRAM = """
from livekit.agents import AgentServer
import outside

server = AgentServer()

@server.rtc_session()
async def entrypoint(ctx): ...
"""


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch, tmp_path):
    for name in tuple(os.environ):
        if name.startswith(("VOXRAY_", "LIVEKIT_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_what_a_person_did_not_set_is_as_in_stock():
    settings = module.dev_settings(None, FLAGS)
    assert (settings.hosts.idle_hosts, settings.hosts.load_limit) == (0, False)
    assert (settings.http.port, settings.telemetry.log_level) == (0, "DEBUG")


def test_what_a_person_set_stays(monkeypatch):
    monkeypatch.setenv("VOXRAY_HOSTS__IDLE_HOSTS", "2")
    settings = module.dev_settings(None, FLAGS | {"http_port": 8000, "log_level": "warn"})
    assert (settings.hosts.idle_hosts, settings.http.port) == (2, 8000)
    assert settings.telemetry.log_level == "WARN"


def test_the_folders_that_are_watched(tmp_path):
    package = tmp_path / "project" / "package" / "inner"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    elsewhere = tmp_path / "shared"
    assert watched_folders(package / "agent.py", ()) == (package.parent,)
    sources = (package / "x.py", elsewhere / "y.py", elsewhere / "deep" / "z.py")
    assert watched_folders(package / "agent.py", sources) == (package.parent, elsewhere)


async def test_a_saved_file_is_seen_and_others_are_not(tmp_path):
    program = tmp_path / "agent.py"
    program.write_text("one")
    (tmp_path / "__pycache__").mkdir()
    watching = changes(program, lambda: ())
    seen = asyncio.create_task(anext(watching))
    async with asyncio.timeout(30):
        while not seen.done():
            # Until the watch stands, what is written is not seen: write again.
            (tmp_path / "notes.txt").write_text("two")
            (tmp_path / "__pycache__" / "x.py").write_text("two")
            program.write_text("two")
            await asyncio.wait([seen], timeout=0.2)
    assert seen.result() == {program}
    await watching.aclose()


async def test_what_a_program_imports_from_elsewhere_is_a_part_of_it(tmp_path):
    program = tmp_path / "app" / "agent.py"
    outside = tmp_path / "lib" / "outside.py"
    for file, text in ((program, PROGRAM), (outside, "X = 1\n")):
        file.parent.mkdir()
        file.write_text(text)
    environment = {**os.environ, "PYTHONPATH": str(outside.parent)}
    probed = await probe_program(program, environment)
    # Not we ourselves, not Python, not what is installed.
    assert probed.sources == {program, outside}
    before = module._version(probed)
    outside.write_text("X = 2\n")
    assert module._version(probed) != before
    alone = replace(probed, sources=frozenset({program}))
    assert module._version(alone) == probed.info.version
