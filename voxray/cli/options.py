"""Options that the commands share, how they become settings, and what a shell completes."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from voxray.base.errors import VoxrayError
from voxray.base.settings import Settings, load_settings
from voxray.cli.api_client import ask, find_api
from voxray.cli.run_files import read_run_files

F = TypeVar("F", bound=Callable[..., None])

LOG_LEVELS = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "CRITICAL")
"""As livekit-agents names them."""

# What a shell waits for while somebody types; an app that does not answer has no job ids.
_COMPLETION_TIMEOUT_S = 1.0


def complete_programs(
    ctx: click.Context,  # noqa: ARG001 - click's signature
    param: click.Parameter,  # noqa: ARG001 - as above
    incomplete: str,
) -> list[CompletionItem]:
    """Complete Python files, and the folders on the way to them."""
    found = _programs(incomplete)
    while len(found) == 1 and found[0].endswith("/"):
        # A shell would put a space behind the only folder: go into it.
        inner = _programs(found[0])
        if not inner:
            break
        found = inner
    return [CompletionItem(each) for each in found]


def complete_apps(
    ctx: click.Context,  # noqa: ARG001 - click's signature
    param: click.Parameter,  # noqa: ARG001 - as above
    incomplete: str,
) -> list[CompletionItem]:
    """Complete the names of the apps that run on this machine."""
    names = (run.app for run in read_run_files())
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def complete_jobs(
    ctx: click.Context,
    param: click.Parameter,  # noqa: ARG001 - click's signature
    incomplete: str,
) -> list[CompletionItem]:
    """Complete the ids of an app's jobs, live ones first; none while it does not answer."""
    try:
        api = find_api(ctx.params.get("api"), ctx.params.get("app"))
        jobs = ask(api, "/jobs", timeout_s=_COMPLETION_TIMEOUT_S).get("jobs") or ()
    except VoxrayError:
        return []
    return [
        CompletionItem(each["id"], help=f"{each.get('state')} in {each.get('room')}")
        for each in jobs
        if isinstance(each, dict) and str(each.get("id", "")).startswith(incomplete)
    ]


def which_app(function: F) -> F:
    """Add the options that say which running app is meant."""
    function = click.option("--api", help="Address of the app's HTTP API (default: VOXRAY_API).")(
        function
    )
    return click.option(
        "--app",
        help="Which app, if several run on this machine.",
        shell_complete=complete_apps,
    )(function)


def program_argument(*, required: bool = True) -> Callable[[F], F]:
    """Add the argument PROGRAM, a Python file."""
    return click.argument(
        "program",
        type=click.Path(path_type=Path),
        required=required,
        shell_complete=complete_programs,
    )


log_level_option = click.option(
    "--log-level",
    type=click.Choice(LOG_LEVELS, case_sensitive=False),
    envvar="LIVEKIT_LOG_LEVEL",
    help="Least severe level that is printed (default: LIVEKIT_LOG_LEVEL).",
)

_RUN_OPTIONS = (
    click.option("--url", help="LiveKit server (default: LIVEKIT_URL)."),
    click.option("--api-key", help="LiveKit API key (default: LIVEKIT_API_KEY)."),
    click.option("--api-secret", help="LiveKit API secret (default: LIVEKIT_API_SECRET)."),
    click.option("--app", "app_name", help="Name of the app, its Ray namespace."),
    click.option("--ray-address", help="Ray cluster to join; none starts Ray here."),
    click.option("--http-port", type=click.IntRange(0, 65535), help="Port of the HTTP API."),
    click.option(
        "--drain-timeout",
        type=click.FloatRange(min=0, min_open=True),
        help="Seconds that Ctrl-C waits for running calls.",
    ),
    log_level_option,
    click.option("--log-format", type=click.Choice(["colored", "json"])),
    click.option(
        "--config",
        type=click.Path(path_type=Path, exists=False),
        help="Settings file (default: voxray.yaml, if it is there).",
    ),
)


def run_options(function: F) -> F:
    """Add the options of every command that runs a program on Ray."""
    for option in reversed(_RUN_OPTIONS):
        function = option(function)
    return function


def settings_of(
    config: Path | None, flags: Mapping[str, Any], **more: Mapping[str, Any]
) -> Settings:
    """Return the settings of an app that is run with `run_options`.

    Args:
        config: the settings file, or None for `voxray.yaml`.
        flags: values of the options, by their names.
        more: further fields by section, over everything else.

    Raises:
        ConfigError: a value is wrong.
    """
    sections: dict[str, Any] = {
        "livekit": {
            "url": flags["url"],
            "api_key": flags["api_key"],
            "api_secret": flags["api_secret"],
        },
        "ray": {"address": flags["ray_address"]},
        "http": {"port": flags["http_port"]},
        "telemetry": {
            "log_level": flags["log_level"].upper() if flags["log_level"] else None,
            "log_format": flags["log_format"],
        },
    }
    for section, fields in more.items():
        sections[section] = {**sections.get(section, {}), **fields}
    return load_settings(
        os.environ,
        file=config,
        flags={
            "app": flags["app_name"],
            "drain_timeout_s": flags["drain_timeout"],
            **sections,
        },
    )


def _programs(incomplete: str) -> list[str]:
    """Return Python files, and folders with a slash, whose paths begin so."""
    folder, _, start = incomplete.rpartition("/")
    shown = f"{folder}/" if "/" in incomplete else ""
    try:
        entries = sorted(Path(shown or ".").expanduser().iterdir())
    except OSError:
        return []
    found = []
    for entry in entries:
        hidden = entry.name.startswith((".", "__")) and not start.startswith((".", "__"))
        if not entry.name.startswith(start) or hidden:
            continue
        if entry.is_dir():
            found.append(f"{shown}{entry.name}/")
        elif entry.suffix == ".py":
            found.append(f"{shown}{entry.name}")
    return found
