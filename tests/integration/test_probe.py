"""A program is read in a process of its own, whatever it does on import."""

import os
from pathlib import Path

import pytest

from tests.running_app import PROGRAMS
from voxray.base.errors import ProgramError
from voxray.cli.probe import probe_program


async def test_info_and_connection_of_a_program() -> None:
    environment = {**os.environ, "LIVEKIT_URL": "ws://here:1", "LIVEKIT_API_KEY": "key"}
    environment.pop("LIVEKIT_API_SECRET", None)
    probed = await probe_program(PROGRAMS / "quickstart_worker_options.py", environment)
    assert probed.info.path == str(PROGRAMS / "quickstart_worker_options.py")
    assert (probed.url, probed.api_key, probed.api_secret) == ("ws://here:1", "key", "")


async def test_keys_in_the_code_are_read_and_not_printed(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "from livekit.agents import AgentServer\n"
        "server = AgentServer(ws_url='ws://there:2', api_key='k', api_secret='very-secret')\n"
        "@server.rtc_session()\n"
        "async def entrypoint(ctx): ...\n"
    )
    probed = await probe_program(program, os.environ)
    assert (probed.url, probed.api_secret) == ("ws://there:2", "very-secret")
    assert "very-secret" not in repr(probed)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import os; os._exit(3)\n", "exit code 3"),
        ("import sys; sys.exit('no')\n", "program.py"),
        ("print('x' * 100000); answer = 42\n", "AgentServer"),
        ("\0\n", "program.py"),
    ],
)
async def test_a_program_that_can_not_be_read(tmp_path: Path, source: str, said: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(source)
    with pytest.raises(ProgramError, match=said):
        await probe_program(program, os.environ)
