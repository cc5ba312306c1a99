import importlib
import sys

import pytest

from voxray.actors.program_version import program_version


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        del sys.modules[name]


def write(folder, name, text):
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_a_version_follows_the_program_and_what_it_imported_beside_itself(folder):
    program = write(folder, "versioned_agent.py", "import versioned_tools\n")
    tools = write(folder, "versioned_tools.py", "A = 1\n")
    write(folder, "versioned_unused.py", "B = 1\n")
    importlib.import_module("versioned_agent")
    first = program_version(program)
    assert first == program_version(program)
    write(folder, "versioned_unused.py", "B = 2\n")
    assert program_version(program) == first
    tools.write_text("A = 2\n")
    second = program_version(program)
    assert second != first
    program.write_text("import versioned_tools  # now\n")
    assert program_version(program) not in {first, second}


@pytest.mark.parametrize("where", ["lib/site-packages", "myenv/lib"])
def test_what_is_installed_does_not_count(folder, monkeypatch, where):
    program = write(folder, "versioned_agent.py", "")
    write(folder, "myenv/pyvenv.cfg", "")
    library = write(folder, f"{where}/versioned_library.py", "A = 1\n")
    monkeypatch.syspath_prepend(str(folder / where))
    importlib.import_module("versioned_library")
    first = program_version(program)
    library.write_text("A = 2\n")
    assert program_version(program) == first


def test_the_same_sources_have_the_same_version_elsewhere(folder):
    one = write(folder, "one/versioned_agent.py", "A = 1\n")
    two = write(folder, "two/versioned_agent.py", "A = 1\n")
    assert program_version(one) == program_version(two)
