"""The timetable of one day, and the sentences in which people ask about it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

_BELOW_TWENTY = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
    fifteen sixteen seventeen eighteen nineteen
"""
ONES = _BELOW_TWENTY.split()
TENS = {20: "twenty", 30: "thirty", 40: "forty", 50: "fifty"}
_OPENING_HOURS = range(8, 20)

# What people say, as JSGF: every word is in the dictionary of the speech recogniser.
_SENTENCES = """\
public <question> = [please | hello | excuse me] <asked> [please];
<asked> = <when> | <platform> | <duration> | <price> | <changes>;
<when> = (when does | what time does | when will) <train> (leave | depart | go) [after <time>]
       | (when is | what time is) <train> [after <time>];
<platform> = (which | what) platform does <train> (leave | depart | go) from
           | (which | what) platform is <train> on;
<duration> = how long does (it | the train) take [to get] to <city>
           | how long is the (journey | trip | train) to <city>;
<price> = (how much is | what is the price of) a ticket to <city>
        | (what | how much) does a ticket to <city> cost;
<changes> = do i (have | need) to change [trains] (to get to | on the way to) <city>
          | how many changes are there (to | on the way to) <city>
          | is there a direct train to <city>;
<train> = the [next | first | <departure>] train to <city>;
"""


@dataclass(frozen=True, kw_only=True)
class Train:
    """One train of the day.

    Attributes:
        departs: time of day as `HH:MM`, on the 24-hour clock.
        minutes: length of the journey.
        price: of one ticket, in whole units of the timetable's currency.
        changes: how often one has to change on the way.
    """

    destination: str
    departs: str
    platform: int
    minutes: int
    price: int
    changes: int

    def to_json(self) -> str:
        """Return the train as a JSON object, the form in which a language model gets it."""
        return json.dumps(asdict(self))


@dataclass(frozen=True, kw_only=True)
class Timetable:
    """All trains of a day, ordered by departure."""

    station: str
    currency: str
    trains: tuple[Train, ...]

    @property
    def destinations(self) -> tuple[str, ...]:
        """The names of all destinations, in alphabetical order."""
        return tuple(sorted({train.destination for train in self.trains}))

    def first_train(self, destination: str, not_before: str = "00:00") -> Train | None:
        """Return the first train to a destination that leaves at `not_before` or later."""
        wanted = destination.strip().lower()
        for train in self.trains:
            if train.destination.lower() == wanted and train.departs >= not_before:
                return train
        return None


def load_timetable(path: Path) -> Timetable:
    """Read a timetable from its JSON file."""
    content = json.loads(path.read_text(encoding="utf-8"))
    trains = [
        Train(
            destination=place["name"],
            departs=departure["at"],
            platform=departure["platform"],
            minutes=place["minutes"],
            price=place["price"],
            changes=place["changes"],
        )
        for place in content["destinations"]
        for departure in place["departures"]
    ]
    return Timetable(
        station=content["station"],
        currency=content["currency"],
        trains=tuple(sorted(trains, key=lambda train: train.departs)),
    )


def speech_grammar(timetable: Timetable) -> str:
    """Return the JSGF grammar of the questions that callers ask about this timetable."""
    cities = " | ".join(name.lower() for name in timetable.destinations)
    departures = " | ".join(sorted({spoken_time(train.departs) for train in timetable.trains}))
    hours = " | ".join(ONES[hour] for hour in _OPENING_HOURS)
    return (
        "#JSGF V1.0;\ngrammar timetable;\n"
        f"{_SENTENCES}"
        f"<city> = {cities};\n"
        f"<departure> = {departures};\n"
        f"<time> = <departure> | ({hours}) (o'clock | thirty);\n"
    )


def spoken_time(time: str) -> str:
    """Return how a time (`09:15`) is spoken (`nine fifteen`)."""
    hour, minute = (int(part) for part in time.split(":"))
    past_the_hour = _spoken_number(minute) if minute else "o'clock"
    return f"{_spoken_number(hour)} {past_the_hour}"


def _spoken_number(number: int) -> str:
    if number < 20:
        return ONES[number]
    ones = number % 10
    ten = TENS[number - ones]
    return f"{ten} {ONES[ones]}" if ones else ten
