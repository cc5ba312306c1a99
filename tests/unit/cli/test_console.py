import json

import pytest
from rich.text import Text

from voxray.cli import console


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")


def test_people_are_told_on_standard_error(capsys):
    console.say("hello [red]there[/red]")
    assert capsys.readouterr() == ("", "hello [red]there[/red]\n")


def test_what_is_said_can_be_json(capsys, monkeypatch):
    monkeypatch.setattr(console._Voice, "formatter", None)
    console.speak_json()
    console.say('100% of "it"')
    out, err = capsys.readouterr()
    said = json.loads(err)
    assert out == ""
    assert (said["message"], said["level"], said["role"]) == ('100% of "it"', "INFO", "cli")
    assert {"timestamp", "name", "pid"} <= said.keys()


def test_progress_without_a_terminal_is_lines(capsys):
    with console.progress("first") as tell:
        tell("second")
    assert capsys.readouterr() == ("", "first\nsecond\n")


def test_json_goes_to_standard_output(capsys):
    console.show_json({"a": [1, None]})
    captured = capsys.readouterr()
    assert (json.loads(captured.out), captured.err) == ({"a": [1, None]}, "")


def test_a_table_shows_values_as_they_are(capsys):
    console.show_table("Title", ("one", "two"), [("[b]x[/b]", 2), (Text("styled"), None)])
    out = capsys.readouterr().out
    for text in ("Title", "one", "[b]x[/b]", "2", "styled", "None"):
        assert text in out


def test_an_empty_table_is_one_line(capsys):
    console.show_table("Title", ("one",), [])
    assert capsys.readouterr().out == "Title: none\n"
