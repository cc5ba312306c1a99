"""`voxray connect`: run a program in one room at once, by a job of our own."""

import asyncio
import os
from functools import partial
from pathlib import Path
from typing import Any

import click

from voxray.cli import console
from voxray.cli.api_client import ApiAddress, ask
from voxray.cli.deployment import Deployment
from voxray.cli.dev import dev_settings
from voxray.cli.interrupts import run_interruptibly
from voxray.cli.options import program_argument, run_options
from voxray.cli.run import run_app

_STATE_PAUSE_S = 0.5
_OPEN_TIMEOUT_S = 15.0


@click.command()
@program_argument()
@run_options
@click.option("--room", required=True, help="The room; it is created if it does not exist.")
@click.option("--participant-identity", default="", help="The agent's (default: agent-<random>).")
def connect(
    program: Path,
    *,
    room: str,
    participant_identity: str,
    config: Path | None,
    **flags: Any,
) -> None:
    """Run PROGRAM in one room at once; LiveKit dispatches nothing to it.

    The program's request_fnc is not asked. The command ends with the call, or by Ctrl-C.

    \b
    Example:
      voxray connect agent.py --room my-room
    """
    # As stock's `connect`, which runs in development mode.
    os.environ.setdefault("LIVEKIT_DEV_MODE", "1")
    settings = dev_settings(config, flags)
    settings = settings.model_copy(
        update={"livekit": settings.livekit.model_copy(update={"registered": False})}
    )
    beside = partial(_run_job, room, participant_identity)
    run_interruptibly(partial(run_app, program, settings, drains=False, beside=beside), console.say)


async def _run_job(room: str, identity: str, deployment: Deployment) -> None:
    """Begin the job; return when it has ended."""
    api = ApiAddress(url=deployment.api_url, token=deployment.api_token)
    begin = partial(
        ask, api, "/jobs", post={"room": room, "identity": identity}, timeout_s=_OPEN_TIMEOUT_S
    )
    job = (await asyncio.to_thread(begin))["job"]
    console.say(f"{job} joins room {room!r}; Ctrl-C ends it")
    while True:
        listed = (await asyncio.to_thread(ask, api, "/jobs"))["jobs"]
        if any(each["id"] == job and each["outcome"] for each in listed):
            return
        await asyncio.sleep(_STATE_PAUSE_S)
