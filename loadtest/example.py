"""Where the timetable example is: in a source checkout, or shipped inside the package."""

import json
from dataclasses import dataclass
from pathlib import Path

import voxray
from voxray.base.errors import MissingPartError

_PLACE = Path("examples", "timetable")


@dataclass(frozen=True, kw_only=True)
class Departure:
    """One departure of a day: `at` as `HH:MM`, and the platform."""

    at: str
    platform: int


@dataclass(frozen=True, kw_only=True)
class Destination:
    """What the timetable knows of one destination.

    Attributes:
        minutes: length of the journey.
        price: of one ticket, in `currency`.
        changes: how often one has to change on the way.
        departures: of one day, earliest first.
    """

    name: str
    minutes: int
    price: int
    currency: str
    changes: int
    departures: tuple[Departure, ...]


def example_folder() -> Path:
    """Return the folder of the example.

    Raises:
        MissingPartError: this installation has no examples.
    """
    package = Path(voxray.__file__).resolve().parent
    # The checkout first: an editable installation may carry an older copy inside the package.
    for root in (package.parent, package):
        if (root / _PLACE / "agent.py").is_file():
            return root / _PLACE
    raise MissingPartError(
        "the timetable example is not part of this installation; "
        "run this command from a source checkout of voxray"
    )


def example_program() -> Path:
    """Return the example's program, which `voxray start` runs.

    Raises:
        MissingPartError: this installation has no examples.
    """
    return example_folder() / "agent.py"


def load_destinations() -> tuple[Destination, ...]:
    """Read the example's timetable, apart from the program whose answers are checked by it.

    Raises:
        MissingPartError: this installation has no examples.
    """
    content = json.loads((example_folder() / "trains.json").read_text(encoding="utf-8"))
    return tuple(
        Destination(
            name=place["name"],
            minutes=place["minutes"],
            price=place["price"],
            currency=content["currency"],
            changes=place["changes"],
            departures=tuple(
                sorted((Departure(**train) for train in place["departures"]), key=lambda d: d.at)
            ),
        )
        for place in content["destinations"]
    )
