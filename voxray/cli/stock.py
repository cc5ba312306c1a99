"""`voxray console` and `download-files`: livekit-agents' own, with our plugins in this process.

Neither needs Ray or LiveKit: the engines of `voxray.STT`, `TTS` and `VAD` run right here.
"""

import os
from pathlib import Path

import click

from voxray.cli.options import log_level_option, program_argument


@click.command()
@program_argument()
@click.option("--text", is_flag=True, help="Type instead of talking; needs no audio devices.")
@click.option("--list-devices", is_flag=True, help="List the audio devices and end.")
@click.option("--input-device", help="Microphone: its number, or a part of its name.")
@click.option("--output-device", help="Loudspeaker: its number, or a part of its name.")
@click.option("--record", is_flag=True, help="Record the session into console-recordings/.")
@log_level_option
@click.pass_context
def console(  # noqa: PLR0913 - one parameter for each option of the command
    ctx: click.Context,
    program: Path,
    *,
    text: bool,
    list_devices: bool,
    input_device: str | None,
    output_device: str | None,
    record: bool,
    log_level: str | None,
) -> None:
    """Talk to PROGRAM in this terminal, without LiveKit and without Ray; Ctrl-C ends it.

    \b
    Example:
      voxray console agent.py
      voxray console agent.py --text
    """
    # Both load livekit-agents, which takes a second.
    from voxray.actors import livekit_cli_compat as stock  # noqa: PLC0415
    from voxray.app import load_program  # noqa: PLC0415

    if list_devices:
        stock.list_audio_devices()
        return
    # As stock's console: programs and livekit-agents look at it.
    os.environ["LIVEKIT_DEV_MODE"] = "1"
    loaded = load_program(program)
    ctx.exit(
        stock.run_console(
            loaded.server,
            stock.ConsolePlan(
                text=text,
                input_device=_device(input_device),
                output_device=_device(output_device),
                record=record,
                log_level=log_level.upper() if log_level else None,
            ),
        )
    )


@click.command("download-files")
@program_argument(required=False)
@click.pass_context
def download_files(ctx: click.Context, *, program: Path | None) -> None:
    """Download the files that plugins need: those installed here, and those that PROGRAM imports.

    \b
    Example:
      voxray download-files
      voxray download-files agent.py
    """
    from voxray.actors import livekit_cli_compat as stock  # noqa: PLC0415 - it loads livekit-agents

    if program is not None:
        from voxray.app import load_program  # noqa: PLC0415 - as above

        load_program(program)
    ctx.exit(stock.download_plugin_files())


def _device(given: str | None) -> str | int | None:
    return int(given) if given is not None and given.isdigit() else given
