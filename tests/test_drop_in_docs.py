"""Holds docs/drop-in.md to the tests that it names."""

import ast
import re
from pathlib import Path

import pytest

from tests import clerk_scenes

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "drop-in.md"
STATES = ("same", "differs", "not possible")
SUITE = "integration/test_drop_in.py"
SCENES = {
    "test_a_named_agent": {**clerk_scenes.SCENES, **clerk_scenes.CLOSING},
    "test_an_agent_for_publishers": clerk_scenes.PUBLISHER,
    "test_an_agent_that_the_environment_names": clerk_scenes.NIGHT,
}


def rows(page):
    """Yield feature, state and last cell of each row of the page's tables."""
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and cells[0] != "feature" and set(line) - set("|- "):
            yield cells


def named_tests(text):
    """Yield file, test and parameter of each test that a text names."""
    return re.findall(r"`([\w/]+\.py)::(\w+)(?:\[([\w-]+)\])?`", text)


ROWS = list(rows(PAGE.read_text(encoding="utf-8")))


def test_the_page_has_rows():
    assert len(ROWS) > 50


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_is_whole_and_backed(row):
    assert len(row) == 3, row
    _, state, backing = row
    assert state in STATES
    named = named_tests(backing)
    assert named or state != "same", "no test backs this"
    assert backing.count("::") == len(named), "a test is written in another way"
    for file, name, parameter in named:
        tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
        functions = {
            node.name
            for node in tree.body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        assert name in functions, (file, name)
        if file == SUITE and name in SCENES:
            assert parameter in SCENES[name], (name, parameter)


def test_every_scene_is_on_the_page():
    named = {
        (name, parameter)
        for _, _, backing in ROWS
        for file, name, parameter in named_tests(backing)
        if file == SUITE and parameter
    }
    assert {(name, scene) for name, scenes in SCENES.items() for scene in scenes} == named


@pytest.mark.parametrize(
    "broken",
    [
        "| a | same | trust me |",
        "| a | alike | `integration/test_drop_in.py::test_worker_events` |",
        "| a | same | `integration/test_drop_in.py::test_that_is_not_there` |",
        "| a | same | `integration/test_drop_in.py::test_a_named_agent[no-scene]` |",
        "| a | same | integration/test_drop_in.py::test_worker_events |",
    ],
)
def test_a_wrong_row_is_seen(broken):
    (row,) = rows(broken)
    with pytest.raises(AssertionError):
        test_a_row_is_whole_and_backed(row)
