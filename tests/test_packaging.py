"""Checks what is shipped: the wheel, the lock file, and that no file knows one machine."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).parents[1]
FOLDERS = ("actors", "base", "cli", "dispatcher", "loadtest", "observability", "pipelines")


@pytest.fixture(scope="module")
def metadata():
    return tomllib.loads((PROJECT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A wheel and a source archive of the tree as it is."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(folder)],
        cwd=PROJECT,
        check=True,
        capture_output=True,
    )
    (wheel,) = folder.glob("*.whl")
    (source,) = folder.glob("*.tar.gz")
    return wheel, source


def sources(folder):
    return {
        str(Path(folder.name) / file.relative_to(folder))
        for file in folder.rglob("*")
        if file.suffix in {".py", ".pyi", ".proto"}
    }


def test_the_wheel_holds_the_whole_package(built):
    names = zipfile.ZipFile(built[0]).namelist()
    assert len(names) == len(set(names))
    inside = set(names)
    expected = {
        f"voxray/{name}" for folder in FOLDERS for name in sources(PROJECT / "voxray" / folder)
    }
    assert expected - inside == set()
    assert {"voxray/__init__.py", "voxray/app.py", "voxray/py.typed"} <= inside


def test_the_wheel_holds_nothing_else(built):
    top = {name.partition("/")[0] for name in zipfile.ZipFile(built[0]).namelist()}
    assert {name for name in top if not name.endswith(".dist-info")} == {"voxray"}
    assert not [name for name in zipfile.ZipFile(built[0]).namelist() if "__pycache__" in name]


def test_the_wheel_brings_the_command_the_engines_and_the_licence(built):
    archive = zipfile.ZipFile(built[0])
    (points,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
    text = archive.read(points).decode()
    assert "voxray = voxray.cli.main:main" in text
    for engine in ("silero", "pocketsphinx", "espeak"):
        assert re.search(rf"^{engine} = voxray\.pipelines\.engines\.", text, re.MULTILINE)
    assert any(name.endswith("licenses/LICENSE") for name in archive.namelist())


def test_the_source_archive_makes_the_same_wheel(built, tmp_path):
    wheel, source = built
    subprocess.run(["tar", "-xzf", str(source), "-C", str(tmp_path)], check=True)
    (tree,) = tmp_path.iterdir()
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "out")],
        cwd=tree,
        check=True,
        capture_output=True,
    )
    (again,) = (tmp_path / "out").glob("*.whl")
    assert set(zipfile.ZipFile(again).namelist()) == set(zipfile.ZipFile(wheel).namelist())


def locked():
    text = (PROJECT / "requirements.lock").read_text()
    pins = re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", text, re.MULTILINE)
    versions: dict[str, set[str]] = {}
    for name, version in pins:
        versions.setdefault(canonicalize_name(name), set()).add(version)
    return versions


def test_the_lock_is_in_step_with_the_project(metadata):
    project = metadata["project"]
    wanted = [
        *project["dependencies"],
        *project["optional-dependencies"]["openai"],
        *metadata["dependency-groups"]["dev"],
    ]
    versions = locked()
    for text in wanted:
        requirement = Requirement(text)
        found = versions.get(canonicalize_name(requirement.name), set())
        assert found, f"{text} is not in requirements.lock: make lock"
        for version in found:
            assert requirement.specifier.contains(version), f"{text}: {version} is locked"


@pytest.mark.parametrize("name", ["requirements.lock", "scripts/uv.txt"])
def test_everything_locked_has_hashes_and_no_address(name):
    text = (PROJECT / name).read_text()
    entries = re.split(r"\n(?=[A-Za-z0-9])", re.sub(r"^#.*\n", "", text))
    assert entries
    assert [entry.partition("\n")[0] for entry in entries if "--hash=sha256:" not in entry] == []
    assert "://" not in text
    assert not re.search(r"^\s*-(?!-hash)", text, re.MULTILINE)


def test_what_builds_the_package_is_locked_too(metadata):
    (backend,) = metadata["build-system"]["requires"]
    assert backend in metadata["dependency-groups"]["dev"]


def tracked():
    done = subprocess.run(
        ["git", "ls-files", "-z"], cwd=PROJECT, check=False, capture_output=True, text=True
    )
    names = done.stdout.split("\0")
    if done.returncode != 0:  # A source archive has no git: look at everything in it.
        names = [str(path.relative_to(PROJECT)) for path in PROJECT.rglob("*")]
    return [PROJECT / name for name in names if name and (PROJECT / name).is_file()]


# A person's or a machine's own folder, and a key's beginning.
MACHINE = re.compile(
    r"(?<![\w.])/(root|work|Users|home/(?!user\b)\w+)/|-----BEGIN \w* ?PRIVATE KEY"
)


def test_no_file_knows_a_machine():
    faults = [
        f"{path.relative_to(PROJECT)}: {found.group()}"
        for path in tracked()
        if path != Path(__file__)
        and not path.is_symlink()
        and (found := MACHINE.search(path.read_text(encoding="utf-8", errors="ignore")))
    ]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("text", ["cd /root/x", "'/work/main'", "/Users/me/a", "=/home/jo/b"])
def test_a_machines_folder_is_seen(text):
    assert MACHINE.search(text)


@pytest.mark.parametrize(
    "text", ["https://a.org/work/b", "network/root/x", "/home/user/x", "/tmp/a"]
)
def test_other_paths_are_not(text):
    assert not MACHINE.search(text)


def test_links_stay_inside_the_tree():
    links = [path for path in tracked() if path.is_symlink()]
    links += [path for path in (PROJECT / "voxray").iterdir() if path.is_symlink()]
    assert links
    for link in links:
        assert not link.readlink().is_absolute()
        assert PROJECT in link.resolve().parents
