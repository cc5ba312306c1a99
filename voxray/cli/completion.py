"""`voxray completion`: the script that lets a shell complete commands, options and names."""

import click
from click.shell_completion import get_completion_class

from voxray.base.errors import VoxrayError

_VARIABLE = "_VOXRAY_COMPLETE"
"""Where the script tells the program what to complete: click's name for `voxray`."""


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, *, shell: str) -> None:
    """Print the completion script of SHELL: commands, options, programs, apps and job ids.

    \b
    Example:
      source <(voxray completion bash)        this shell; put it into ~/.bashrc
      source <(voxray completion zsh)         likewise, into ~/.zshrc
      voxray completion fish > ~/.config/fish/completions/voxray.fish
    """
    kind = get_completion_class(shell)
    root = ctx.find_root().command
    if kind is None:
        raise VoxrayError(f"click can't complete in {shell}; it knows bash, zsh and fish")
    # Not `source()`, which starts the shell to ask for its version: it may not be installed here.
    complete = kind(root, {}, "voxray", _VARIABLE)
    click.echo(complete.source_template % complete.source_vars())
