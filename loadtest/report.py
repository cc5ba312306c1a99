"""Results as numbers, JSON objects and tables. Pure."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from rich.table import Table

from voxray.loadtest.call import CallResult, Turn
from voxray.loadtest.load import LoadResult
from voxray.loadtest.turns_api import STAGES

PERCENTILES = (50, 90, 99)
_MILLISECONDS = 1000
_COLUMNS = {
    "end_of_turn": "end of turn",
    "llm_ttft": "LLM token",
    "tts_ttfb": "TTS byte",
}


def percentile(values: Sequence[float], percent: float) -> float:
    """Return a percentile by the nearest rank: a value that was really measured.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("there is no percentile of nothing")
    rank = math.ceil(percent / 100 * len(values))
    return sorted(values)[max(rank, 1) - 1]


def spread(values: Iterable[float]) -> dict[str, float | int]:
    """Return count, percentiles and maximum of seconds; only the count when there are none."""
    known = list(values)
    if not known:
        return {"count": 0}
    return {
        "count": len(known),
        **{f"p{percent}": round(percentile(known, percent), 4) for percent in PERCENTILES},
        "max": round(max(known), 4),
    }


def turn_json(turn: Turn) -> dict[str, Any]:
    """Return a turn as the JSON object of `voxray demo --json` and `voxray loadtest --json`.

    `tool` is the last tool that was called and `stages` the seconds inside; both are null or
    empty where the agent's side was not asked.
    """
    inside, exchange = turn.inside, turn.exchange
    latency_s = exchange.latency_s
    return {
        "said": turn.question.say,
        "heard": exchange.heard,
        "tool": inside.tools[-1] if inside is not None and inside.tools else None,
        "answer": exchange.answer,
        "expected": list(turn.question.expect),
        "outcome": exchange.outcome.value,
        "understood": turn.understood,
        "correct": turn.correct,
        "latency_s": None if latency_s is None else round(latency_s, 4),
        "stages": {name: round(value, 4) for name, value in inside.stages.items()}
        if inside is not None
        else {},
    }


def totals_json(turns: Sequence[Turn], asked: int) -> dict[str, Any]:
    """Return how many of the questions were answered, understood and right, and the latencies."""
    return {
        "asked": asked,
        "answered": sum(turn.answered for turn in turns),
        "understood": sum(turn.understood for turn in turns),
        "correct": sum(turn.correct for turn in turns),
        "latency_s": spread(_latencies(turns)),
    }


def load_json(result: LoadResult) -> dict[str, Any]:
    """Return a load as the JSON object of `voxray loadtest --json`."""
    joined = [call.joined for call in result.calls if call.joined is not None]
    asked = sum(call.asked for call in result.calls)
    return {
        "rooms": len(result.calls),
        "joined": len(joined),
        "seconds": round(result.seconds, 3),
        "agent_joined_s": spread(times.agent_joined_s for times in joined),
        "agent_audible_s": spread(times.agent_audible_s for times in joined),
        "missing": result.missing,
        "mixed_up": sum(turn.mixed_up for turn in result.turns),
        "totals": totals_json(result.turns, asked),
        "calls": [_call_json(call) for call in result.calls],
    }


def turns_table(turns: Sequence[Turn]) -> Table:
    """Return the closing table of a demo: each turn with its latency and stages."""
    table = Table(title="milliseconds: as the caller heard it, and inside")
    table.add_column("turn")
    table.add_column("right")
    for column in ("as heard", *(_COLUMNS.get(name, name) for name in STAGES)):
        table.add_column(column, justify="right")
    for number, turn in enumerate(turns, 1):
        stages = turn.inside.stages if turn.inside is not None else {}
        table.add_row(
            str(number),
            "yes" if turn.correct else "NO",
            _milliseconds(turn.exchange.latency_s),
            *(_milliseconds(stages.get(name)) for name in STAGES),
        )
    return table


def load_table(result: LoadResult) -> Table:
    """Return the percentiles of a load."""
    joined = [call.joined for call in result.calls if call.joined is not None]
    table = Table(title="milliseconds")
    table.add_column("from a caller's view")
    for column in ("count", *(f"p{percent}" for percent in PERCENTILES), "max"):
        table.add_column(column, justify="right")
    for name, values in (
        ("room created to agent in the room", [times.agent_joined_s for times in joined]),
        ("room created to agent's audio track", [times.agent_audible_s for times in joined]),
        ("end of question to first audio", _latencies(result.turns)),
    ):
        numbers = spread(values)
        cells = (numbers.get(key) for key in (*(f"p{p}" for p in PERCENTILES), "max"))
        table.add_row(name, str(numbers["count"]), *(_milliseconds(cell) for cell in cells))
    return table


def _call_json(call: CallResult) -> dict[str, Any]:
    joined = call.joined
    return {
        "room": call.room,
        "agent_joined_s": None if joined is None else round(joined.agent_joined_s, 4),
        "agent_audible_s": None if joined is None else round(joined.agent_audible_s, 4),
        "greeted": call.greeted,
        "error": call.error,
        "turns": [{**turn_json(turn), "mixed_up": turn.mixed_up} for turn in call.turns],
    }


def _latencies(turns: Sequence[Turn]) -> list[float]:
    return [turn.exchange.latency_s for turn in turns if turn.exchange.latency_s is not None]


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * _MILLISECONDS:.0f}"
