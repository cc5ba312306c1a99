"""`voxray dev`: run a program while it is written; a saved change is tried, then taken."""

import hashlib
import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import click

from voxray.base.errors import ProgramError
from voxray.base.settings import Settings
from voxray.cli import console
from voxray.cli.deployment import Deployment, program_environment
from voxray.cli.interrupts import run_interruptibly
from voxray.cli.options import program_argument, run_options, settings_of
from voxray.cli.probe import ProbedProgram, probe_program
from voxray.cli.run import run_app
from voxray.cli.watch import changes

_VERSION_LENGTH = 16


@click.command()
@program_argument()
@run_options
@click.option("--reload/--no-reload", default=True, help="Take changes over when you save them.")
def dev(program: Path, *, reload: bool, config: Path | None, **flags: Any) -> None:
    """Run PROGRAM while you write it: saved changes are taken over, with live calls.

    A change is tried in a process of its own first; one that can't be loaded is explained, and
    what runs goes on. Live calls begin anew with the new code, in the same rooms. Any free port,
    verbose logs, no spare host, no load limit; Ctrl-C stops at once.

    \b
    Example:
      voxray dev agent.py
      voxray dev agent.py --no-reload
    """
    # As stock's: programs and livekit-agents look at it.
    os.environ["LIVEKIT_DEV_MODE"] = "1"
    settings = dev_settings(config, flags)
    beside = partial(_reload_on_save, program, settings) if reload else None
    run_interruptibly(partial(run_app, program, settings, drains=False, beside=beside), console.say)


def dev_settings(config: Path | None, flags: dict[str, Any]) -> Settings:
    """Return the settings of an app that is being written, as stock's `dev` differs from `start`.

    What the person set otherwise, by variable or file, is left as it is.
    """
    flags = {**flags, "log_level": flags["log_level"] or "DEBUG"}
    if flags["http_port"] is None:
        flags["http_port"] = 0
    settings = settings_of(config, flags)
    wanted = {"idle_hosts": 0, "load_limit": False}
    unset = {
        name: value for name, value in wanted.items() if name not in settings.hosts.model_fields_set
    }
    return settings_of(config, flags, hosts=unset)


async def _reload_on_save(program: Path, settings: Settings, deployment: Deployment) -> None:
    environment = program_environment(settings)
    async for changed in changes(program, lambda: deployment.sources):
        names = ", ".join(sorted({path.name for path in changed}))
        try:
            probed = await probe_program(program, environment)
        except ProgramError as error:
            console.say(f"not reloaded, the running code is kept: {error}")
            continue
        deployment.sources = probed.sources
        version = _version(probed)
        if version == deployment.program.version:
            continue
        console.say(f"reloading: {names} changed")
        await deployment.change_program(
            probed.info.model_copy(update={"version": version}), relaunch=True
        )


def _version(probed: ProbedProgram) -> str:
    """Return the program's version; what it imports from outside of its folder counts as well."""
    folder = Path(probed.info.path).parent
    outside = sorted(path for path in probed.sources if folder not in path.parents)
    if not outside:
        return probed.info.version
    return hashlib.sha256(f"{probed.info.version}{_digest(outside)}".encode()).hexdigest()[
        :_VERSION_LENGTH
    ]


def _digest(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file}\0".encode())
        digest.update(file.read_bytes() if file.is_file() else b"")
    return digest.hexdigest()
