"""Options of engines: from a program's mapping to a dataclass."""

from dataclasses import dataclass

import pytest

from voxray.base.errors import EngineConfigError
from voxray.pipelines.engines.options import read_options


@dataclass(frozen=True, kw_only=True)
class Options:
    rate: int = 170
    pause_s: float = 0.5
    name: str | None = None
    loud: bool = False

    def __post_init__(self):
        if self.rate < 0:
            raise ValueError(f"rate must not be negative, not {self.rate}")


def test_defaults_and_values():
    assert read_options("e", Options, {}) == Options()
    given = {"rate": 10, "pause_s": 1, "name": "x", "loud": True}
    options = read_options("e", Options, given)
    assert options == Options(rate=10, pause_s=1.0, name="x", loud=True)
    assert isinstance(options.pause_s, float)


def test_a_whole_number_from_json_is_an_int():
    assert read_options("e", Options, {"rate": 150.0}).rate == 150
    assert read_options("e", Options, {"name": None}).name is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"speed": 1}, "e: unknown option: speed; it takes rate, pause_s, name, loud"),
        ({"rate": "fast"}, "e: option rate must be int, not str"),
        ({"rate": 1.5}, "e: option rate must be int, not float"),
        ({"rate": True}, "e: option rate must be int, not bool"),
        ({"pause_s": True}, "e: option pause_s must be float, not bool"),
        ({"pause_s": float("nan")}, "e: option pause_s must be a finite number"),
        ({"name": 5}, "e: option name must be str or null, not int"),
        ({"loud": 1}, "e: option loud must be bool, not int"),
        ({"rate": -1}, "e: rate must not be negative, not -1"),
    ],
)
def test_faults_are_named(given, message):
    with pytest.raises(EngineConfigError, match=message):
        read_options("e", Options, given)


def test_an_engine_without_options_says_so():
    @dataclass(frozen=True)
    class Nothing:
        pass

    with pytest.raises(EngineConfigError, match="it takes none"):
        read_options("e", Nothing, {"x": 1})
