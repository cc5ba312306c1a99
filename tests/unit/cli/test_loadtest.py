"""`voxray loadtest`: what is checked before anything starts."""

import pytest
from click.testing import CliRunner

from voxray.base.errors import ConfigError
from voxray.cli.loadtest import loadtest


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch, tmp_path):
    for variable in ("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)


def test_server_has_to_be_named():
    error = CliRunner().invoke(loadtest, []).exception
    assert isinstance(error, ConfigError)
    assert "LIVEKIT_URL (or --url)" in str(error)


@pytest.mark.parametrize("option", ["--rooms", "--turns"])
def test_counts_are_positive(option):
    assert CliRunner().invoke(loadtest, [option, "0"]).exit_code == 2


def test_file_of_questions_that_is_not_there():
    options = ["--url", "ws://127.0.0.1:9", "--api-key", "k", "--api-secret", "s"]
    error = CliRunner().invoke(loadtest, [*options, "--questions", "none.yaml"]).exception
    assert isinstance(error, ConfigError)
    assert "none.yaml" in str(error)
