"""docs/engines.md: its tables are true, and its engine of one's own runs."""

import importlib
import re
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from tests.fakes.event_log import EventLog
from voxray.base.settings import Settings
from voxray.base.timing import SystemClock
from voxray.pipelines.engine_host import EngineHost
from voxray.pipelines.engines import registry
from voxray.pipelines.engines.base import EndOfInput, TextInput
from voxray.pipelines.engines.edge_tts import EdgeOptions
from voxray.pipelines.engines.espeak_tts import Voice
from voxray.pipelines.engines.piper_tts import PiperOptions
from voxray.pipelines.engines.registry import EngineSpec

PROJECT = Path(__file__).parents[4]
PAGE = (PROJECT / "docs" / "engines.md").read_text(encoding="utf-8")


def section(title):
    return PAGE.partition(f"\n### {title}\n")[2].partition("\n## ")[0].partition("\n### ")[0]


def names(table):
    return re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)


def test_every_engine_in_the_box_is_in_the_table():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    declared = set(project["project"]["entry-points"][registry.ENTRY_POINT_GROUP])
    assert declared - {"scripted"} <= set(names(PAGE.partition("```yaml")[0]))


def test_the_settings_of_the_page_are_valid():
    for example in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL):
        assert Settings.model_validate(yaml.safe_load(example)).inference.groups


@pytest.mark.parametrize(
    ("engine", "options"), [("espeak", Voice), ("piper", PiperOptions), ("edge", EdgeOptions)]
)
def test_the_options_of_what_speaks_are_all_there(engine, options):
    listed = names(section(engine).partition("| option |")[2])
    assert listed == [field.name for field in fields(options)]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Installs the page's engine of one's own, as a package would be."""
    own = PAGE.partition("\n## Engines of your own\n")[2]
    (code,) = re.findall(r"```python\n(.*?)```", own, re.DOTALL)
    (declaration,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    declared = tomllib.loads(declaration)["project"]["entry-points"][registry.ENTRY_POINT_GROUP]
    (tmp_path / "beeps.py").write_text(code)
    info = tmp_path / "beeps-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: beeps\nVersion: 1.0\n")
    lines = [f"[{registry.ENTRY_POINT_GROUP}]", *(f"{k} = {v}" for k, v in declared.items())]
    (info / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield
    sys.modules.pop("beeps", None)


async def test_an_engine_of_ones_own_runs_as_the_page_says(package):
    host = EngineHost(
        [EngineSpec("beeps", {"sample_rate": 8000})],
        max_streams=1,
        latency_budget_ms=0,
        max_batch=8,
        sink=EventLog(),
        clock=SystemClock(),
    )
    await host.start()
    try:
        assert [(info.name, info.sample_rate) for info in host.infos()] == [("beeps", 8000)]
        log, heard = EventLog(), []
        stream = host.open("tts", {"pitch": 880}, on_output=heard.append, on_end=log.emit)
        stream.push(TextInput("one two three"))
        stream.push(EndOfInput())
        await log.until(bool)
        assert [len(each.samples) for each in heard] == [800, 800, 800]
    finally:
        await host.aclose()
