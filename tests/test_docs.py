"""Holds the documents to the code: generated pages are current, tables and links are true."""

import importlib.util
import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from voxray.base.settings import Settings
from voxray.cli import main
from voxray.cli.cluster import RAY_ENVIRONMENT
from voxray.dispatcher import api_source
from voxray.dispatcher.jobs import JobState, StoryEntry
from voxray.dispatcher.status import HostView, JobView, ReplicaView

PROJECT = Path(__file__).parents[1]
PAGES = sorted([*PROJECT.glob("*.md"), *(PROJECT / "docs").glob("*.md")])


def read(name):
    return (PROJECT / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def settings_page():
    spec = importlib.util.spec_from_file_location(
        "gen_settings_docs", PROJECT / "scripts" / "gen_settings_docs.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.render()


def test_the_settings_page_is_current(settings_page):
    assert read("docs/settings.md") == settings_page, "run scripts/gen_settings_docs.py"


def test_every_setting_is_on_its_page(settings_page):
    def names(model, prefix=""):
        for name, field in model.model_fields.items():
            if hasattr(field.annotation, "model_fields"):
                yield from names(field.annotation, f"{prefix}{name}.")
            else:
                yield f"{prefix}{name}"

    listed = set(re.findall(r"^\| `([\w.]+)` \|", settings_page, re.MULTILINE))
    assert set(names(Settings)) - listed == set()


def test_the_example_of_the_settings_page_is_valid(settings_page):
    (example,) = re.findall(r"```yaml\n(.*?)```", settings_page, re.DOTALL)
    assert Settings.model_validate(yaml.safe_load(example)).app == "support"


def table(page, after):
    """Return the first column of the first table after some text."""
    rows = page.partition(after)[2].partition("| --- |")[2].partition("\n\n")[0]
    return set(re.findall(r"^\| `(\w+)` \|", rows, re.MULTILINE))


def blank(view, **values):
    """Return a view whose fields that matter nothing are None."""
    return view(**{field.name: None for field in fields(view)} | values)


def test_the_status_page_lists_what_the_api_answers():
    page = read("docs/status.md")
    job = blank(JobView, seconds=1.0)
    host = api_source._host(blank(HostView, jobs=(job,)))
    assert table(page, "\nA host:") == set(host)
    assert table(page, "\nA job ") == set(host["jobs"][0])
    replica = blank(ReplicaView, engines=("silero",))
    assert table(page, "\nA replica:") == set(api_source._replica(replica))
    entry = StoryEntry(
        at=1.0, from_state=None, to_state=JobState.OFFERED, cause="", host_id=None, generation=0
    )
    assert table(page, "\n## `/jobs/<id>/story`") == set(api_source._entry(entry))


def test_ray_s_environment_is_listed():
    listed = re.findall(
        r"^\| `([A-Z]+_\w+)` \| `(.*?)` \|", read("docs/architecture.md"), re.MULTILINE
    )
    assert dict(listed) == dict(RAY_ENVIRONMENT)


def test_the_commands_of_the_readme_are_those_that_exist():
    section = read("README.md").partition("## Commands")[2].partition("\n## ")[0]
    listed = set(re.findall(r"^\| `voxray ([\w-]+)", section, re.MULTILINE))
    assert listed == set(main._COMMANDS)


def test_the_states_of_a_job_are_those_of_the_table():
    page = read("docs/status.md")
    (row,) = (line for line in page.splitlines() if "`offered`" in line)
    live = {state.value for state in JobState} - {JobState.ENDED.value}
    assert set(re.findall(r"`(\w+)`", row)) - {"state"} == live


def anchors(text):
    return {
        re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = re.sub(r"`[^`\n]*`", "", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(file.read_text(encoding="utf-8")), f"{page.name}: {target}"
