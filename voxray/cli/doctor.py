"""`voxray doctor`: checks every part that voxray needs and says what to do."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path

import click

from voxray.base.errors import ConfigError
from voxray.base.settings import Settings, load_settings
from voxray.cli import checks, console
from voxray.cli.checks import Level, Result
from voxray.cli.livekit_check import check_livekit

_COLOURS = {Level.OK: "green", Level.WARNING: "yellow", Level.FAILED: "red"}
# Native libraries are loaded in processes of their own, a few at a time.
_AT_ONCE = 4

_Check = Callable[[], Result | tuple[Result, ...]]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="Settings file (default: voxray.yaml, if it is there).",
)
def doctor(*, as_json: bool, config: Path | None) -> None:
    """Check every part that voxray needs; exit 1 if one is missing.

    \b
    Example:
      voxray doctor
      voxray doctor --json
    """
    faults: list[Result] = []
    try:
        settings = load_settings(os.environ, file=config)
    except ConfigError as error:
        faults.append(checks.settings_fault(error))
        settings = Settings()
    results = [*faults, *_run_all(_every_check(settings))]
    failed = any(result.level is Level.FAILED for result in results)
    if as_json:
        console.show_json({"ok": not failed, "checks": [_as_json(each) for each in results]})
    else:
        _show(results)
    if failed:
        click.get_current_context().exit(1)


def _every_check(settings: Settings) -> Sequence[_Check]:
    engines = {
        # One check for each way in which an engine is set up.
        (name, json.dumps(group.engine_settings.get(name, {}), sort_keys=True, default=str))
        for group in settings.inference.groups
        for name in group.engines
    }
    return (
        checks.check_python,
        checks.check_packages,
        checks.check_ray,
        partial(checks.check_ray_environment, os.environ),
        partial(checks.check_ray_authentication, os.environ, settings.ray.address),
        partial(checks.check_tls, settings.inference.tls),
        partial(checks.check_livekit_server, os.environ),
        *(partial(checks.check_engine, name, given) for name, given in sorted(engines)),
        partial(checks.check_port, settings),
        partial(check_livekit, settings.livekit),
        checks.check_shared_memory,
        checks.check_open_files,
    )


def _run_all(every: Sequence[_Check]) -> list[Result]:
    """Run the checks side by side; return their results in the order of the checks."""
    with (
        console.progress(f"checking {len(every)} parts") as tell,
        ThreadPoolExecutor(max_workers=_AT_ONCE, thread_name_prefix="doctor") as pool,
    ):
        futures = [pool.submit(check) for check in every]
        for done, _ in enumerate(as_completed(futures), 1):
            if sys.stderr.isatty():
                tell(f"checked {done} of {len(every)} parts")
    results: list[Result] = []
    for future in futures:
        found = future.result()
        results.extend((found,) if isinstance(found, Result) else found)
    return results


def _show(results: Sequence[Result]) -> None:
    width = max(len(result.name) for result in results)
    for each in results:
        level = click.style(f"{each.level:7}", fg=_COLOURS[each.level])
        click.echo(f"{level}  {each.name:{width}}  {each.found}")
        if each.level is not Level.OK and each.remedy:
            click.echo(f"{'':7}  {'':{width}}  -> {each.remedy}")


def _as_json(result: Result) -> dict[str, str]:
    return {
        "name": result.name,
        "level": result.level.value,
        "found": result.found,
        "remedy": result.remedy,
    }
