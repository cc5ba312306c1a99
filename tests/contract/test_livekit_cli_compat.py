"""Every private name of livekit-agents' command line that `livekit_cli_compat` relies on."""

import inspect

import pytest
import typer
from livekit.agents import AgentServer
from livekit.agents.cli import _legacy

from voxray.actors import livekit_cli_compat as compat
from voxray.base.errors import MissingPartError


@pytest.fixture
def asked(monkeypatch):
    """Keep what stock's console is asked for, instead of running it."""
    calls = []
    monkeypatch.setattr(compat, "_run_console", lambda **arguments: calls.append(arguments))
    monkeypatch.setattr(compat, "_missing_audio_library", lambda: "")
    return calls


def test_the_console_takes_what_we_give_it(asked):
    plan = compat.ConsolePlan(text=True, input_device=3, record=True, log_level="WARN")
    assert compat.run_console(AgentServer(), plan) == 0
    (given,) = asked
    inspect.signature(_legacy._run_console).bind(**given)
    assert (given["mode"], given["input_device"], given["record"]) == ("text", 3, True)
    assert given["log_level"] == "WARN"


def test_the_log_level_is_the_server_s_own_for_development(asked):
    compat.run_console(AgentServer(), compat.ConsolePlan())
    assert (asked[0]["mode"], asked[0]["log_level"]) == ("audio", "DEBUG")


def test_its_exit_status_is_ours(monkeypatch, asked):
    def refuse(**_):
        raise typer.Exit(code=3)

    monkeypatch.setattr(compat, "_run_console", refuse)
    assert compat.run_console(AgentServer(), compat.ConsolePlan()) == 3


def test_without_an_audio_library_one_can_type_and_not_talk(monkeypatch, asked):
    monkeypatch.setattr(compat, "_missing_audio_library", lambda: "PortAudio library not found")
    monkeypatch.setattr(_legacy.AgentsConsole, "_instance", None)
    with pytest.raises(MissingPartError, match="--text"):
        compat.run_console(AgentServer(), compat.ConsolePlan())
    with pytest.raises(MissingPartError, match="PortAudio"):
        compat.list_audio_devices()
    assert compat.run_console(AgentServer(), compat.ConsolePlan(text=True)) == 0
    # Stock asks this of every console, and it needs the library.
    parameters = inspect.signature(_legacy.AgentsConsole._validate_device_or_raise).parameters
    names = [name for name in parameters if name != "self"]
    console = _legacy.AgentsConsole.get_instance()
    console._validate_device_or_raise(**dict.fromkeys(names))


def test_the_download_asks_every_plugin(monkeypatch):
    class Plugin:
        package = "mine"

        def download_files(self):
            raise OSError("no network")

    monkeypatch.setattr("livekit.agents.__main__._discover_and_import_plugins", list)
    monkeypatch.setattr("livekit.agents.__main__.Plugin.registered_plugins", [Plugin()])
    assert compat.download_plugin_files() == 1
