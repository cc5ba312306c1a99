"""`voxray start`: run a livekit-agents program on Ray and say what happens."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import click

from voxray.base.errors import ConfigError
from voxray.base.settings import Settings
from voxray.cli import console
from voxray.cli.deployment import Deployment, deploy
from voxray.cli.event_lines import line_of
from voxray.cli.interrupts import Interrupts, run_interruptibly
from voxray.cli.options import program_argument, run_options, settings_of
from voxray.cli.run_files import RunFile, check_name_is_free, remove_run_file, write_run_file

_EVENT_WAIT_S = 10.0
_DRAINING = "draining: no new calls, running ones may end; Ctrl-C again stops now"


@click.command()
@program_argument()
@run_options
@click.option("--detach", is_flag=True, help="Leave the app running on the cluster.")
def start(program: Path, *, detach: bool, config: Path | None, **flags: Any) -> None:
    """Run PROGRAM in production mode until Ctrl-C, which drains; a second one stops now."""
    settings = settings_of(config, flags)
    if detach and not settings.ray.address:
        raise ConfigError(
            "--detach needs a Ray cluster that outlives this command; start one with "
            "`ray start --head` and give its address (--ray-address auto)"
        )
    run_interruptibly(partial(_run, program, settings, detach=detach), console.say)


async def _run(program: Path, settings: Settings, interrupts: Interrupts, *, detach: bool) -> None:
    check_name_is_free(settings.app)
    async with deploy(
        program,
        settings,
        log_to_driver=True,
        on_progress=console.say,
        on_joined=interrupts.listen,
    ) as deployment:
        run_file = write_run_file(
            RunFile(
                app=deployment.app,
                api=deployment.api_url,
                pid=None if detach else os.getpid(),
                token=deployment.api_token,
            )
        )
        _introduce(deployment, program)
        if detach:
            deployment.detach()
            console.say("left running; `voxray status` shows it, `voxray drain` ends it")
            return
        try:
            await _attend(deployment, interrupts, settings.drain_timeout_s)
        finally:
            interrupts.wind_down()
            remove_run_file(run_file)


def _introduce(deployment: Deployment, program: Path) -> None:
    name = deployment.program.agent_name
    console.say(
        f"{program.name} runs as app {deployment.app!r}; "
        + (f"agent {name!r}, explicit dispatch" if name else "automatic dispatch to every room")
    )
    console.say(f"api and metrics  {deployment.api_url}  (/status /metrics /sd)")
    if deployment.dashboard_url:
        console.say(f"ray dashboard    {deployment.dashboard_url}")
    console.say("Ctrl-C drains, a second one stops now")


async def _attend(
    deployment: Deployment, interrupts: Interrupts, drain_timeout_s: float | None
) -> None:
    """Print events until a signal; then drain, or stop at the second one."""
    first, second = interrupts.expect(_DRAINING), interrupts.expect("stopping now")
    interrupts.expect("still stopping")
    printer = asyncio.create_task(_print_events(deployment), name="print-events")
    over = asyncio.create_task(deployment.wait_over(), name="wait-over")
    try:
        await _first_of(first, over)
        if not over.done():
            await deployment.begin_drain(drain_timeout_s)
            await _first_of(second, over)
        if not over.done():
            interrupts.wind_down()
            await deployment.stop()
        if over.done() and (failure := over.result()):
            raise failure
    finally:
        for task in (printer, over):
            task.cancel()
        await asyncio.wait([printer, over])


async def _first_of(signalled: asyncio.Event, over: "asyncio.Task[Any]") -> None:
    waiter = asyncio.create_task(signalled.wait(), name="wait-for-a-signal")
    await asyncio.wait([waiter, over], return_when=asyncio.FIRST_COMPLETED)
    if not waiter.done():
        waiter.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiter


async def _print_events(deployment: Deployment) -> None:
    async for event in _events(deployment):
        if text := line_of(event):
            console.say(text)


async def _events(deployment: Deployment) -> AsyncIterator[dict[str, Any]]:
    cursor = 0
    headers = {"Authorization": f"Bearer {deployment.api_token}"}
    timeout = aiohttp.ClientTimeout(total=_EVENT_WAIT_S + 5.0)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
        while True:
            try:
                async with session.get(
                    f"{deployment.api_url}/events",
                    params={"after": str(cursor), "wait": str(_EVENT_WAIT_S)},
                ) as response:
                    page = await response.json()
            except (aiohttp.ClientError, TimeoutError):
                # The dispatcher restarts; its first event has number 1 again.
                cursor = 0
                await asyncio.sleep(1.0)
                continue
            cursor = page["cursor"]
            for event in page["events"]:
                yield event
