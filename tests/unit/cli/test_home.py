from pathlib import Path

from voxray.cli import home
from voxray.cli.home import build_home, user_home

PROJECT = Path(__file__).parents[3]


def test_the_variable_decides_for_both(tmp_path):
    environment = {"VOXRAY_HOME": str(tmp_path)}
    assert user_home(environment) == build_home(environment) == tmp_path


def test_a_tilde_and_a_relative_folder_are_understood(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert user_home({"VOXRAY_HOME": "~/a"}) == tmp_path / "a"
    assert user_home({"VOXRAY_HOME": "b"}) == tmp_path / "b"


def test_a_source_tree_builds_into_a_folder_that_git_ignores(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert build_home({}) == PROJECT / ".voxray"
    assert ".voxray/" in (PROJECT / ".gitignore").read_text().splitlines()
    assert user_home({}) == tmp_path / ".voxray"


def test_an_installed_package_builds_into_the_users_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(home, "__file__", str(tmp_path / "site-packages/voxray/cli/home.py"))
    assert build_home({}) == tmp_path / ".voxray"
