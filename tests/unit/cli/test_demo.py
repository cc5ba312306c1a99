"""`voxray demo`: what is checked before anything starts."""

import pytest
from click.testing import CliRunner

from voxray.base.errors import ConfigError
from voxray.cli.demo import demo


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch, tmp_path):
    for variable in ("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)


def run(*options):
    result = CliRunner().invoke(demo, options)
    return result.exception if result.exception is not None else result


def test_running_server_needs_keys():
    error = run("--url", "ws://127.0.0.1:9")
    assert isinstance(error, ConfigError)
    assert "LIVEKIT_API_KEY" in str(error)
    assert "LIVEKIT_API_SECRET" in str(error)


def test_bad_address():
    error = run("--url", "nowhere")
    assert isinstance(error, ConfigError)
    assert "livekit.url" in str(error)


def test_file_of_questions_that_is_not_there():
    error = run("--questions", "none.yaml")
    assert isinstance(error, ConfigError)
    assert "none.yaml" in str(error)


def test_recording_has_a_folder():
    error = run("--record", "none/demo.wav")
    assert isinstance(error, ConfigError)
    assert "none" in str(error)


def test_options_are_explained():
    text = run("--help").output
    for option in ("--json", "--keep", "--url", "--questions", "--record", "--seed", "--llm-url"):
        assert option in text
