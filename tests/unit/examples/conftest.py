"""The modules of the example, imported the way its program does."""

import importlib
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[3] / "examples" / "timetable"
_MODULES = ("timetable", "rules", "agent")
_VARIABLES = ("TIMETABLE_LLM_URL", "TIMETABLE_LLM_MODEL", "OPENAI_BASE_URL", "OPENAI_API_KEY")


@pytest.fixture
def example(monkeypatch):
    """Import a module of the example, fresh for each test."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    for variable in _VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    yield importlib.import_module
    for name in _MODULES:
        sys.modules.pop(name, None)


@pytest.fixture
def timetable(example):
    return example("timetable")


@pytest.fixture
def trains(timetable):
    return timetable.load_timetable(EXAMPLE / "trains.json")
