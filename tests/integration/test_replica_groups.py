"""Replica groups on real Ray with two GPUs that it pretends to have: pinned, waiting, replaced."""

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.running_app import PROGRAMS, RunningApp, environment_for, voxray_app
from voxray.loadtest.livekit_server import LiveKitServer

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

SETTINGS = """\
ray:
  logical_gpus: 2
hosts:
  max_hosts: 1
  idle_hosts: 0
inference:
  groups:
    - name: ears
      engines: [silero]
      replicas: 5
      gpus: 0.5
      cpus: 0.1
    - name: voice
      engines: [espeak, silero]
      gpus: 0
      cpus: 0.1
"""
WAITS = "waits for 0.5 GPU: 0 of 2 free"


def ready(status: dict, group: str = "ears") -> list[dict]:
    return [e for e in status["replicas"] if e["group"] == group and e["state"] == "ready"]


def group_of(status: dict, name: str = "ears") -> dict:
    (group,) = [group for group in status["groups"] if group["name"] == name]
    return group


def status_by_command(app: RunningApp, server: LiveKitServer, home: Path) -> str:
    command = (sys.executable, "-m", "voxray", "status", "--api", app.api)
    environment = environment_for(server, home)
    return subprocess.run(
        command, env=environment, cwd=home, check=True, capture_output=True, text=True
    ).stdout


async def test_halves_of_two_gpus(livekit_server: LiveKitServer, tmp_path: Path) -> None:
    (tmp_path / "voxray.yaml").write_text(SETTINGS)
    async with voxray_app(livekit_server, tmp_path, PROGRAMS / "quiet.py") as app:
        # Four have a half each, and each checked in its process that it sees that GPU; the fifth
        # is told to wait, and for what.
        status = await app.until_status(
            lambda status: len(ready(status)) == 4 and bool(group_of(status)["reason"]),
            timeout_s=90,
        )
        devices = Counter(each["device"] for each in ready(status))
        assert devices == {"logical-gpu:0": 2, "logical-gpu:1": 2}
        assert len({each["pid"] for each in ready(status)}) == 4
        (waiting,) = [e for e in status["replicas"] if e["state"] == "starting"]
        assert (waiting["reason"], waiting["pid"]) == (WAITS, None)
        group = group_of(status)
        assert (group["ready"], group["wanted"]) == (4, 5)
        shown = await asyncio.to_thread(status_by_command, app, livekit_server, tmp_path)
        assert f"group ears: 4 of 5 replicas; {waiting['id']} {WAITS}" in shown

        # A group without a GPU has both its engines in one process.
        (voice,) = ready(status, "voice")
        assert (voice["device"], voice["engines"]) == ("cpu", ["espeak", "silero"])

        # A half becomes free: who waited for it gets it, on that very GPU.
        victim = ready(status)[0]
        os.kill(victim["pid"], signal.SIGKILL)
        status = await app.until_status(
            lambda status: waiting["id"] in [each["id"] for each in ready(status)], timeout_s=60
        )
        (came,) = [each for each in ready(status) if each["id"] == waiting["id"]]
        assert came["device"] == victim["device"]
        assert victim["id"] not in [each["id"] for each in status["replicas"]]
