"""The console and the file download of livekit-agents' own command line, which has no public API.

The other half of `livekit_compat`: the same versions, pinned by
`tests/contract/test_livekit_cli_compat.py`.
"""

import logging
from dataclasses import dataclass

from livekit import agents
from livekit.agents import AgentServer
from livekit.agents.worker import ServerEnvOption

from voxray.actors.livekit_compat import TESTED_VERSIONS
from voxray.base.errors import MissingPartError

try:
    import typer
    from livekit.agents.__main__ import _download_files
    from livekit.agents.cli._legacy import (
        AgentsConsole,
        _print_audio_devices,
        _run_console,
    )
except ImportError as error:  # pragma: no cover - the contract test pins every name
    raise MissingPartError(
        f"livekit-agents {agents.__version__} lacks a name that voxray needs ({error}); "
        f"install livekit-agents {TESTED_VERSIONS['livekit-agents']}"
    ) from error


@dataclass(frozen=True, kw_only=True)
class ConsolePlan:
    """How a console is run.

    Attributes:
        text: begin by typing; Ctrl-T changes to talking.
        input_device, output_device: number, or a part of the name; None takes the default.
        record: whether the session is recorded.
        log_level: as livekit-agents names them; None takes the server's own for development.
    """

    text: bool = False
    input_device: str | int | None = None
    output_device: str | int | None = None
    record: bool = False
    log_level: str | None = None


def run_console(server: AgentServer, plan: ConsolePlan) -> int:
    """Talk to a program in this terminal until Ctrl-C; return the exit status.

    Call it on the main thread: it takes the signals over.

    Raises:
        MissingPartError: it is to be talked to, and there is no library for audio devices.
    """
    missing = _missing_audio_library()
    if missing:
        if not plan.text:
            raise _no_audio(missing)
        # Stock looks for the library even where nobody listens.
        vars(AgentsConsole.get_instance())["_validate_device_or_raise"] = _validate_nothing
    try:
        _run_console(
            server=server,
            # Its annotation knows no numbers, though its own command line hands them in.
            input_device=plan.input_device,  # type: ignore[arg-type]
            output_device=plan.output_device,  # type: ignore[arg-type]
            mode="text" if plan.text else "audio",
            record=plan.record,
            log_level=plan.log_level or ServerEnvOption.getvalue(server.log_level, True),
        )
    except typer.Exit as error:
        return error.exit_code
    except OSError as error:
        if missing:
            # Ctrl-T, to a mode that can't be.
            raise _no_audio(missing) from error
        raise
    return 0


def list_audio_devices() -> None:
    """Print the audio devices.

    Raises:
        MissingPartError: there is no library for audio devices.
    """
    if missing := _missing_audio_library():
        raise _no_audio(missing)
    _print_audio_devices()


def download_plugin_files() -> int:
    """Download what all installed and imported plugins need; return the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    return _download_files()


def _missing_audio_library() -> str:
    try:
        import sounddevice  # type: ignore[import-untyped]  # noqa: F401, PLC0415 - trying it is the point
    except (ImportError, OSError) as error:
        return str(error)
    return ""


def _no_audio(missing: str) -> MissingPartError:
    return MissingPartError(
        f"audio devices can't be used: {missing}; install PortAudio (Debian: libportaudio2), or "
        "type instead: --text"
    )


def _validate_nothing(**_: object) -> None:
    """Take the place of a look at devices that nobody uses."""
