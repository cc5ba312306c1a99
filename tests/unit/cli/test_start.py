"""What `voxray start` makes of its options, up to the moment at which the app runs."""

import os

import pytest
from click.testing import CliRunner

from voxray.base.settings import HostSettings
from voxray.cli import run
from voxray.cli.main import cli


@pytest.fixture
def started(monkeypatch, tmp_path):
    """Run `voxray start` without an app; returns the settings that it would run with."""
    for name in tuple(os.environ):
        if name.startswith(("VOXRAY_", "LIVEKIT_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "agent.py").write_text("")
    seen = []
    monkeypatch.setattr(run, "run_interruptibly", lambda app, say: seen.append(app.args[1]))

    def start(*flags):
        result = CliRunner().invoke(cli, ["start", "agent.py", *flags], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return seen.pop()

    return start


def test_a_simulation_lifts_the_limits_of_load_and_takes_any_port(started):
    settings = started("--simulation")
    assert settings.hosts.sessions_per_host == 1000
    assert settings.hosts.load_limit is False
    assert settings.http.port == 0


def test_a_port_that_is_asked_for_is_kept_under_a_simulation(started):
    assert started("--simulation", "--http-port", "9123").http.port == 9123


def test_a_start_without_it_is_as_the_settings_say(started):
    settings = started()
    assert settings.hosts == HostSettings()
    assert settings.http.port != 0
