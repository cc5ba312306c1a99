"""The commands as a person uses them: a program that is being written, a room to join, a look."""

import asyncio
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from livekit import api, rtc

from tests.running_app import PROGRAMS, RunningApp, environment_for, voxray_app
from voxray.loadtest.livekit_server import LiveKitServer

pytestmark = pytest.mark.timeout(240)

# What the console shows of a line that is being typed: up to its cursor.
_PROMPT = re.compile("\u276f \x1b\\[0m([a-z ]*)\x1b\\[37m\u2588")
PROGRAM = """
from livekit.agents import AgentServer, JobContext
import words

server = AgentServer()

@server.rtc_session()
async def entrypoint(ctx: JobContext):
    async def goodbye():
        print("goodbye of", words.VERSION, flush=True)
    ctx.add_shutdown_callback(goodbye)
    await ctx.connect()
    await ctx.room.local_participant.set_attributes({"version": words.VERSION})
"""


class Caller:
    """A participant that sees which version of the program is in its room."""

    def __init__(self) -> None:
        self.room = rtc.Room()
        self.changed = asyncio.Event()
        for name in ("participant_attributes_changed", "participant_connected"):
            self.room.on(name, lambda *_: self.changed.set())

    def versions(self) -> dict[str, str]:
        others = self.room.remote_participants.values()
        return {
            each.identity: each.attributes["version"]
            for each in others
            if "version" in each.attributes
        }

    async def until(self, version: str) -> str:
        """Return the identity of the agent of this version, once it is there alone."""
        async with asyncio.timeout(60):
            while True:
                found = self.versions()
                if list(found.values()) == [version]:
                    return next(iter(found))
                await self.changed.wait()
                self.changed.clear()


@asynccontextmanager
async def caller(server: LiveKitServer, room: str) -> AsyncIterator[Caller]:
    one = Caller()
    token = (
        api.AccessToken(server.api_key, server.api_secret)
        .with_identity("caller")
        .with_grants(api.VideoGrants(room_join=True, room=room))
        .to_jwt()
    )
    await one.room.connect(server.url, token)
    try:
        yield one
    finally:
        await one.room.disconnect()


async def voxray(server: LiveKitServer | None, home: Path, *arguments: str) -> str:
    """Run a command to its end; return what it printed as its result."""
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "voxray", *arguments],
        env=environment_for(server, home),
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return done.stdout


async def until_said(app: RunningApp, text: str) -> None:
    async with asyncio.timeout(60):
        while text not in app.output:  # noqa: ASYNC110 - a process writes it, and tells nobody
            await asyncio.sleep(0.1)


async def test_a_program_is_reloaded_as_it_is_saved(
    livekit_server: LiveKitServer, tmp_path: Path, room_name: str
) -> None:
    folder = tmp_path / "program"
    folder.mkdir()
    program, words = folder / "agent.py", folder / "words.py"
    program.write_text(PROGRAM)
    words.write_text('VERSION = "one"\n')
    async with (
        voxray_app(livekit_server, tmp_path, program, command="dev") as app,
        caller(livekit_server, room_name) as here,
    ):
        identity = await here.until("one")
        job = (await app.get("/jobs"))["jobs"][0]["id"]
        await look_at(livekit_server, tmp_path, job, room_name)

        words.write_text("VERSION = 1 / 0\n")
        await until_said(app, "not reloaded, the running code is kept")
        assert f"{words}:1: ZeroDivisionError" in app.output
        assert here.versions() == {identity: "one"}

        words.write_text('VERSION = "two"\n')
        # The same job, in the same room, under the same identity, from its beginning.
        assert await here.until("two") == identity
        await until_said(app, "goodbye of one")
        (again,) = (await app.get("/jobs"))["jobs"]
        assert (again["id"], again["generation"], again["outcome"]) == (job, 2, None)
        async with caller(livekit_server, f"{room_name}-next") as new:
            await new.until("two")
    # Ctrl-C in development ends calls at once, and as their program wants it.
    assert app.output.count("goodbye of two") == 2


async def look_at(server: LiveKitServer, home: Path, job: str, room: str) -> None:
    """Ask about the running app by every command that shows something of it."""
    top, shown, story, jobs = await asyncio.gather(
        voxray(server, home, "top", "--json"),
        voxray(server, home, "top", "--once", "--rooms"),
        voxray(server, home, "story", job[:-3], "--json"),
        voxray(server, home, "jobs", "--json"),
    )
    figures = json.loads(top)
    assert [call["id"] for call in figures["calls"]] == [job]
    assert figures["totals"]["used"] == 1
    assert figures["hosts"][0]["memory"] > 2**20
    assert room in shown
    assert json.loads(story)["job"] == job
    assert json.loads(jobs)["jobs"][0]["room"] == room


async def test_connect_runs_a_program_in_a_room_without_a_dispatch(
    livekit_server: LiveKitServer, tmp_path: Path, room_name: str
) -> None:
    program = tmp_path / "agent.py"
    program.write_text(PROGRAM)
    (tmp_path / "words.py").write_text('VERSION = "one"\n')
    options = ("--room", room_name, "--participant-identity", "me")
    async with (
        caller(livekit_server, room_name) as here,
        voxray_app(livekit_server, tmp_path, program, *options, command="connect") as app,
    ):
        assert await here.until("one") == "me"
        async with api.LiveKitAPI(
            livekit_server.url, livekit_server.api_key, livekit_server.api_secret
        ) as livekit:
            # LiveKit keeps a dispatch for every agent there could be; it made no job of it.
            dispatches = await livekit.agent_dispatch.list_dispatch(room_name)
            assert [job for each in dispatches for job in each.state.jobs] == []
            await livekit.room.delete_room(api.DeleteRoomRequest(room=room_name))
        # It ends with its call.
        assert await asyncio.to_thread(app.process.wait, 60) == 0
    assert "goodbye of one" in app.output


def test_console_answers_what_is_typed(tmp_path: Path) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        environment = {**environment_for(None, tmp_path), "TERM": "xterm"}
        arguments = ("-m", "voxray", "console", str(PROGRAMS / "quickstart.py"), "--text")
        os.execve(sys.executable, (sys.executable, *arguments), environment)
    said = b""
    line = "green river\n"
    last: tuple[int, float] = (-1, 0.0)
    ended = False
    deadline = time.monotonic() + 60
    try:
        while b"you said green river" not in said:
            assert time.monotonic() < deadline, said[-2000:].decode(errors="replace")
            if select.select([terminal], [], [], 0.2)[0]:
                said += os.read(terminal, 65536)
            entered = _PROMPT.findall(said.decode(errors="replace"))
            if not entered or b"You" in said:
                continue
            # The console drops what is typed while it does not read: one key at a time, and again
            # if it was lost.
            number = len(entered[-1])
            if number > last[0] or time.monotonic() > last[1] + 1.0:
                os.write(terminal, line[number].encode())
                last = (number, time.monotonic())
        os.write(terminal, b"\x03")
        while not ended and time.monotonic() < deadline:
            if select.select([terminal], [], [], 0.2)[0]:
                try:
                    ended = not os.read(terminal, 65536)
                except OSError:  # The other end is closed: how a terminal says that it is over.
                    ended = True
    finally:
        if not ended:
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        os.close(terminal)
    assert status == 0


async def test_download_files_asks_the_program_s_plugins(tmp_path: Path) -> None:
    program = tmp_path / "agent.py"
    program.write_text(
        PROGRAM
        + """
from livekit.agents import Plugin

class Mine(Plugin):
    def __init__(self):
        super().__init__("mine", "1", "mine")

    def download_files(self):
        open("downloaded", "w").close()

Plugin.register_plugin(Mine())
"""
    )
    (tmp_path / "words.py").write_text('VERSION = "one"\n')
    await voxray(None, tmp_path, "download-files", str(program))
    assert (tmp_path / "downloaded").exists()
