"""`doctor` says whether Ray asks for a token, and which."""

import pytest

from voxray.cli.checks import Level, check_ray_authentication
from voxray.cli.cluster import Authentication, authentication

TOKEN = "0123456789abcdef"


@pytest.mark.parametrize(
    ("environment", "address", "level", "found"),
    [
        ({}, "", Level.OK, "fresh"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}, "", Level.OK, "as given"),
        ({"RAY_AUTH_MODE": "disabled"}, "", Level.WARNING, "off"),
        ({"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": TOKEN}, "h:1", Level.WARNING, "off"),
        ({"RAY_AUTH_TOKEN_PATH": "/run/token"}, "h:1", Level.OK, "of the environment"),
        ({}, "h:1", Level.WARNING, "no token"),
    ],
)
def test_what_doctor_says(environment, address, level, found, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    result = check_ray_authentication(environment, address)
    assert (result.level, bool(result.remedy)) == (level, level is not Level.OK)
    assert found in result.found
    assert TOKEN not in result.found + result.remedy


def test_the_token_that_ray_keeps_for_a_user_counts(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text(TOKEN)
    assert "~/.ray/auth_token" in check_ray_authentication({}, "h:1").found


def test_an_empty_variable_is_none():
    given = {"RAY_AUTH_TOKEN": "", "RAY_AUTH_TOKEN_PATH": ""}
    assert authentication(given) is Authentication.FRESH
