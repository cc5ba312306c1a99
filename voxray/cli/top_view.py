"""What `voxray top` shows: an app's figures from the API's answers, and a table of them. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from voxray.cli.shown import JsonObject, megabytes, millis, number, objects, seconds, shown

_STAGE = "e2e"
"""The stage of a turn that a caller feels: from the end of what they said to the answer."""
_LONGEST_CALLS = 40
"""Calls in the table; a terminal holds no more."""


def figures(
    status: JsonObject, turns: Sequence[JsonObject], memory: Mapping[int, int]
) -> dict[str, Any]:
    """Return what is shown, as plain data for `--json` too.

    Args:
        status: the answer of `/status`.
        turns: the turns that count for the latencies.
        memory: resident bytes by process id, as far as they are known.
    """
    dispatchers = objects(status, "dispatchers")
    hosts = objects(status, "hosts")
    waiting = objects(status, "waiting_jobs")
    return {
        "app": dispatchers[0].get("app") if dispatchers else None,
        "state": dispatchers[0].get("state") if dispatchers else None,
        "registered": bool(dispatchers and dispatchers[0].get("registered")),
        "totals": {
            "hosts": len(hosts),
            "slots": _sum(dispatchers, "slots"),
            "used": _sum(dispatchers, "used"),
            "reserved": _sum(dispatchers, "reserved"),
            "load": max((_float(each.get("load")) for each in dispatchers), default=0.0),
            "calls": sum(len(objects(host, "jobs")) for host in hosts),
            "waiting_jobs": len(waiting),
            "waiting_rooms": _sum(dispatchers, "waiting_rooms"),
        },
        "turns": _latency(turns),
        "hosts": [_host(host, memory) for host in hosts],
        "calls": [
            *(_call(job, host.get("id")) for host in hosts for job in objects(host, "jobs")),
            *(_call(job, None) for job in waiting),
        ],
        "replicas": [_replica(replica, memory) for replica in objects(status, "replicas")],
    }


def render(shown_now: Mapping[str, Any], *, rooms: bool) -> RenderableType:
    """Return the figures as tables.

    Args:
        shown_now: what `figures` returned.
        rooms: whether the names of the rooms are shown.
    """
    return Group(
        _summary(shown_now),
        _table(
            "Hosts",
            ("id", "state", "calls", "load", "loop lag", "memory", "pid"),
            (
                (
                    shown(host["id"]),
                    shown(host["state"]),
                    f"{host['calls']}/{shown(host['capacity'])}",
                    number(host["load"], 2),
                    millis(host["loop_lag_s"]),
                    megabytes(host["memory"]),
                    shown(host["pid"]),
                )
                for host in shown_now["hosts"]
            ),
        ),
        _calls(shown_now["calls"], rooms=rooms),
        _table(
            "Replicas",
            ("id", "state", "streams", "queue", "device", "memory"),
            (
                (
                    shown(replica["id"]),
                    shown(replica["state"]),
                    shown(replica["streams"]),
                    millis(replica["queue_s"]),
                    shown(replica["device"]),
                    megabytes(replica["memory"]),
                )
                for replica in shown_now["replicas"]
            ),
        ),
    )


def quantile(values: Sequence[float], share: float) -> float | None:
    """Return the smallest value that a share of the values does not exceed; None without any."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))]


def _latency(turns: Sequence[JsonObject]) -> dict[str, Any]:
    stages = (turn.get("stages") for turn in turns)
    values = [
        float(each[_STAGE])
        for each in stages
        if isinstance(each, dict) and isinstance(each.get(_STAGE), int | float)
    ]
    return {
        "count": len(values),
        "p50_s": quantile(values, 0.5),
        "p95_s": quantile(values, 0.95),
    }


def _host(host: JsonObject, memory: Mapping[int, int]) -> dict[str, Any]:
    calls, capacity = len(objects(host, "jobs")), host.get("capacity")
    return {
        "id": host.get("id"),
        "state": host.get("state"),
        "calls": calls,
        "capacity": capacity,
        "load": calls / capacity if isinstance(capacity, int) and capacity else None,
        "loop_lag_s": host.get("loop_lag_s"),
        "memory": _memory(host, memory),
        "pid": host.get("pid"),
    }


def _call(job: JsonObject, host_id: object) -> dict[str, Any]:
    return {
        "id": job.get("id"),
        "room": job.get("room"),
        "state": job.get("state"),
        "generation": job.get("generation"),
        "host": host_id,
        "seconds": job.get("seconds"),
    }


def _replica(replica: JsonObject, memory: Mapping[int, int]) -> dict[str, Any]:
    names = ("id", "group", "state", "streams", "queue_s", "device", "pid")
    return {**{name: replica.get(name) for name in names}, "memory": _memory(replica, memory)}


def _summary(shown_now: Mapping[str, Any]) -> Text:
    totals, turns = shown_now["totals"], shown_now["turns"]
    state = shown(shown_now["state"])
    if not shown_now["registered"]:
        state += ", not registered at LiveKit"
    waiting = totals["waiting_jobs"] + totals["waiting_rooms"]
    return Text(
        f"{shown(shown_now['app'])}: {state} | {totals['calls']} calls, "
        f"{totals['used']} + {totals['reserved']} reserved of {totals['slots']} slots on "
        f"{totals['hosts']} hosts, load {totals['load']:.2f} | {waiting} waiting | "
        f"turns: p50 {millis(turns['p50_s'])}, p95 {millis(turns['p95_s'])} of {turns['count']}"
    )


def _calls(calls: Sequence[Mapping[str, Any]], *, rooms: bool) -> RenderableType:
    columns = ("id", *(("room",) if rooms else ()), "state", "generation", "host", "for")
    table = _table(
        "Calls",
        columns,
        (
            (
                shown(call["id"]),
                *((shown(call["room"]),) if rooms else ()),
                shown(call["state"]),
                shown(call["generation"]),
                shown(call["host"]),
                seconds(call["seconds"]),
            )
            for call in calls[:_LONGEST_CALLS]
        ),
    )
    if len(calls) <= _LONGEST_CALLS:
        return table
    return Group(table, Text(f"and {len(calls) - _LONGEST_CALLS} more"))


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> RenderableType:
    table = Table(title=Text(title), title_justify="left", header_style="bold", box=None)
    for column in columns:
        table.add_column(Text(column), overflow="fold")
    for row in rows:
        # Never read as markup: rooms are named by strangers.
        table.add_row(*(Text(value) for value in row))
    return table if table.row_count else Text(f"{title}: none")


def _memory(process: JsonObject, memory: Mapping[int, int]) -> int | None:
    pid = process.get("pid")
    return memory.get(pid) if isinstance(pid, int) else None


def _sum(each: Sequence[JsonObject], name: str) -> int:
    return sum(int(_float(one.get(name))) for one in each)


def _float(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
