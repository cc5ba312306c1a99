"""The `voxray` command: finds the subcommands, and turns errors into one line and an exit code."""

import importlib
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec

import click
from click.shell_completion import CompletionItem

from voxray.base.errors import VoxrayError
from voxray.cli.command_line import hide_secrets

_INTERRUPTED = 130


@dataclass(frozen=True, kw_only=True)
class _Command:
    """Where a subcommand is, and what the overview says of it."""

    module: str
    attribute: str
    summary: str


# Named here, so that `voxray --help` loads none of them: Ray alone takes half a second.
_GROUPS: Mapping[str, tuple[tuple[str, str, str, str], ...]] = {
    "Run a program": (
        ("start", "run", "start", "Run a livekit-agents program in production mode."),
        ("dev", "dev", "dev", "Run one while you write it: reloads when you save."),
        ("connect", "connect", "connect", "Run one in a room at once, without a dispatch."),
        ("console", "stock", "console", "Talk to a program in this terminal; needs no LiveKit."),
        ("download-files", "stock", "download_files", "Download what the plugins need."),
    ),
    "Look at a running app": (
        ("status", "inspect", "status", "Show the hosts, calls and replicas of an app."),
        ("top", "top", "top", "Watch hosts, calls and latencies live."),
        ("jobs", "jobs", "jobs", "List the calls that run, wait or have ended."),
        ("story", "jobs", "story", "Show what happened to one job."),
        ("drain", "drain", "drain", "Take no new jobs; the app ends with its last call."),
    ),
    "Try and check": (
        ("demo", "demo", "demo", "Talk to an example agent, everything on this machine."),
        ("loadtest", "loadtest", "loadtest", "Let synthetic callers talk to the agents."),
        ("doctor", "doctor", "doctor", "Check every part that voxray needs."),
        ("completion", "completion", "completion", "Print what completes commands in your shell."),
    ),
}
_COMMANDS: Mapping[str, _Command] = {
    name: _Command(module=f"voxray.cli.{module}", attribute=attribute, summary=summary)
    for group in _GROUPS.values()
    for name, module, attribute, summary in group
}


class _Group(click.Group):
    """A group that imports a subcommand when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return [name for name, command in _COMMANDS.items() if find_spec(command.module)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command = _COMMANDS[cmd_name]
        loaded = getattr(importlib.import_module(command.module), command.attribute)
        assert isinstance(loaded, click.Command)
        return loaded

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        there = self.list_commands(ctx)
        width = max(map(len, there))
        for title, commands in _GROUPS.items():
            # Padded, so that the summaries of all groups stand below each other.
            rows = [(f"{name:{width}}", summary) for name, *_, summary in commands if name in there]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        # Click's own loads every command for its summary, which a shell would wait for.
        commands = [
            CompletionItem(name, help=_COMMANDS[name].summary)
            for name in self.list_commands(ctx)
            if name.startswith(incomplete)
        ]
        return [*commands, *click.Command.shell_complete(self, ctx, incomplete)]


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("voxray"), prog_name="voxray")
def cli() -> None:
    """LiveKit voice agents as actors on Ray.

    \b
    Example:
      voxray start agent.py      and, in another terminal,
      voxray top
    """


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; return its exit status.

    0: done; 1: it failed; 2: the input is wrong; 130: interrupted.
    """
    # LiveKit's own development keys (devkey, secret) are short; nobody can do anything about it.
    warnings.filterwarnings("ignore", message="The HMAC key is")
    try:
        status = cli.main(
            args=None if arguments is None else list(arguments),
            prog_name="voxray",
            standalone_mode=False,
        )
    except VoxrayError as error:
        _complain(str(error))
        for line in error.details:
            click.echo(f"    {line}", err=True)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return _INTERRUPTED
    except BrokenPipeError:
        # Who read our output (`| head`) has gone; Python would complain again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status if isinstance(status, int) else 0


def main() -> None:
    """Entry point of the console script."""
    hide_secrets()
    sys.exit(run())


def _complain(message: str) -> None:
    click.echo(f"voxray: error: {' '.join(message.split())}", err=True)
