"""`voxray start`: run a livekit-agents program on Ray and say what happens."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

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
SIMULATION_HOSTS: Mapping[str, Any] = {"sessions_per_host": 1000, "load_limit": False}
"""Settings of the hosts under a simulation: as many calls as can be set, whatever the load."""
_DRAINING = "draining: no new calls, running ones may end; Ctrl-C again stops now"
_ENDING = "stopping: all calls end now; Ctrl-C again stops at once"


Beside: TypeAlias = Callable[[Deployment], Coroutine[Any, Any, None]]
"""What a command does while its app runs."""


@click.command()
@program_argument()
@run_options
@click.option("--simulation", is_flag=True, hidden=True, help="Lift the load limit.")
@click.option("--detach", is_flag=True, help="Leave the app running on the cluster.")
@click.option(
    "--replace",
    is_flag=True,
    help="Take the place of this app where it runs with another program or settings.",
)
def start(
    program: Path,
    *,
    simulation: bool,
    detach: bool,
    replace: bool,
    config: Path | None,
    **flags: Any,
) -> None:
    """Run PROGRAM in production mode until Ctrl-C, which drains; a second one stops now.

    \b
    Example:
      export LIVEKIT_URL=ws://127.0.0.1:7880 LIVEKIT_API_KEY=... LIVEKIT_API_SECRET=...
      voxray start agent.py
      voxray start agent.py --ray-address auto --detach
    """
    if simulation:
        # As stock under `lk simulate`: nothing bounds the load, and runs side by side may not
        # fight for a port.
        flags["http_port"] = 0 if flags["http_port"] is None else flags["http_port"]
        settings = settings_of(config, flags, hosts=SIMULATION_HOSTS)
    else:
        settings = settings_of(config, flags)
    if detach and not settings.ray.address:
        raise ConfigError(
            "--detach needs a Ray cluster that outlives this command; start one with "
            "`ray start --head` and give its address (--ray-address auto)"
        )
    presence = Presence(detach=detach, replace=replace)
    run_interruptibly(partial(run_app, program, settings, presence=presence), console.say)


@dataclass(frozen=True, kw_only=True)
class Presence:
    """How an app comes to its cluster and stays there.

    Attributes:
        detach: the command returns as soon as the app runs, and leaves it running.
        replace: it takes the place of this app where that runs with another program or settings.
    """

    detach: bool = False
    replace: bool = False


async def run_app(
    program: Path,
    settings: Settings,
    interrupts: Interrupts,
    *,
    presence: Presence = Presence(),
    drains: bool = True,
    beside: Beside | None = None,
) -> None:
    """Run a program until it is over or a signal ended it.

    Args:
        program: the livekit-agents program.
        settings: of the app.
        interrupts: where the signals come from.
        presence: how it comes to its cluster and stays there.
        drains: whether the first signal lets calls end by themselves; without it they end now.
        beside: runs meanwhile; its end, unless it is an error, ends the app.
    """
    if settings.telemetry.log_format == "json":
        console.speak_json()
    check_name_is_free(settings.app)
    async with deploy(
        program,
        settings,
        log_to_driver=True,
        on_progress=console.say,
        on_joined=interrupts.listen,
        replace=presence.replace,
    ) as deployment:
        run_file = write_run_file(
            RunFile(
                app=deployment.app,
                api=deployment.api_url,
                pid=None if presence.detach else os.getpid(),
                token=deployment.api_token,
            )
        )
        isolated = settings.hosts.isolation == "process"
        _introduce(deployment, program, drains=drains, isolated=isolated)
        if presence.detach:
            deployment.detach()
            console.say("left running; `voxray status` shows it, `voxray drain` ends it")
            return
        try:
            await _attend(
                deployment,
                interrupts,
                _Attendance(drains=drains, drain_timeout_s=settings.drain_timeout_s, beside=beside),
            )
        finally:
            interrupts.wind_down()
            remove_run_file(run_file)


def _introduce(deployment: Deployment, program: Path, *, drains: bool, isolated: bool) -> None:
    name = deployment.program.agent_name
    console.say(
        f"{program.name} runs as app {deployment.app!r}; "
        + (f"agent {name!r}, explicit dispatch" if name else "automatic dispatch to every room")
    )
    if not isolated and deployment.program.job_memory_limit_mb > 0:
        console.say(
            "job_memory_limit_mb is not applied: calls share a process; "
            "VOXRAY_HOSTS__ISOLATION=process gives each its own"
        )
    if unapplied := deployment.program.unapplied_options:
        verb = "are" if len(unapplied) > 1 else "is"
        console.say(
            f"{', '.join(unapplied)} of the program {verb} not applied; docs/drop-in.md says what "
            "stands for each"
        )
    console.say(f"api and metrics  {deployment.api_url}  (/status /metrics /sd)")
    if deployment.dashboard_url:
        console.say(f"ray dashboard    {deployment.dashboard_url}")
    if deployment.dashboard_token:
        console.say(f"  its token      in {deployment.dashboard_token}")
    console.say(
        "Ctrl-C drains, a second one stops now" if drains else "Ctrl-C ends all calls and stops"
    )


@dataclass(frozen=True, kw_only=True)
class _Attendance:
    drains: bool
    drain_timeout_s: float | None
    beside: Beside | None


async def _attend(deployment: Deployment, interrupts: Interrupts, how: _Attendance) -> None:
    """Print events until a signal; then let calls end, or stop at the second one."""
    first = interrupts.expect(_DRAINING if how.drains else _ENDING)
    second = interrupts.expect("stopping now")
    interrupts.expect("still stopping")
    printer = asyncio.create_task(_print_all_events(deployment), name="print-events")
    over = asyncio.create_task(deployment.wait_over(), name="wait-over")
    tasks: list[asyncio.Task[Any]] = [printer, over]
    ends: list[asyncio.Task[Any]] = [over]
    if how.beside is not None:
        beside = asyncio.create_task(how.beside(deployment), name="beside")
        tasks.append(beside)
        ends.append(beside)
    try:
        await _first_of(first, *ends)
        if not any(task.done() for task in ends):
            # At once, with the shutdown callbacks of every call: so a stock worker ends in `dev`.
            await deployment.begin_drain(how.drain_timeout_s if how.drains else 0.0)
            await _first_of(second, over)
        if not over.done():
            interrupts.wind_down()
            await deployment.stop()
        if over.done() and (failure := over.result()):
            raise failure
        for task in ends:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _first_of(signalled: asyncio.Event, *ends: "asyncio.Task[Any]") -> None:
    waiter = asyncio.create_task(signalled.wait(), name="wait-for-a-signal")
    await asyncio.wait([waiter, *ends], return_when=asyncio.FIRST_COMPLETED)
    if not waiter.done():
        waiter.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiter


async def _print_all_events(deployment: Deployment) -> None:
    async with asyncio.TaskGroup() as group:
        for url in deployment.api_urls:
            group.create_task(_print_events(deployment, url), name=f"print-events-{url}")


async def _print_events(deployment: Deployment, url: str) -> None:
    async for event in _events(deployment, url):
        if text := line_of(event):
            console.say(text)


async def _events(deployment: Deployment, url: str) -> AsyncIterator[dict[str, Any]]:
    cursor = 0
    headers = {"Authorization": f"Bearer {deployment.api_token}"}
    timeout = aiohttp.ClientTimeout(total=_EVENT_WAIT_S + 5.0)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
        while True:
            try:
                async with session.get(
                    f"{url}/events",
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
