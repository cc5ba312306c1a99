"""`voxray status`, `story` and `drain`: ask a running app's dispatcher."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import quote

import click

from voxray.cli import console
from voxray.cli.api_client import ApiAddress, NotFoundError, ask, find_api

F = TypeVar("F", bound=Callable[..., None])

_Json = Mapping[str, Any]


def _which_app(function: F) -> F:
    function = click.option("--api", help="Address of the app's HTTP API (default: VOXRAY_API).")(
        function
    )
    return click.option("--app", help="Which app, if several run on this machine.")(function)


@click.command()
@_which_app
@click.option("--json", "as_json", is_flag=True, help="Print JSON (docs/status.md).")
def status(*, api: str | None, app: str | None, as_json: bool) -> None:
    """Show the dispatchers, session hosts, calls and inference replicas of an app."""
    answer = ask(find_api(api, app), "/status")
    if as_json:
        console.show_json(answer)
        return
    console.show_table(
        "Dispatchers",
        ("app", "state", "livekit", "pid", "node", "slots", "load"),
        (_dispatcher_row(each) for each in _objects(answer, "dispatchers")),
    )
    hosts = list(_objects(answer, "hosts"))
    console.show_table(
        "Hosts",
        ("id", "state", "jobs", "capacity", "loop lag", "pid", "node"),
        (_host_row(each) for each in hosts),
    )
    console.show_table(
        "Jobs",
        ("id", "room", "state", "generation", "host", "for"),
        (
            _job_row(job, host)
            for job, host in (
                *((job, each.get("id")) for each in hosts for job in _objects(each, "jobs")),
                *((job, None) for job in _objects(answer, "waiting_jobs")),
            )
        ),
    )
    console.show_table(
        "Replicas",
        ("id", "group", "engines", "state", "streams", "queue", "device", "pid", "node"),
        (_replica_row(each) for each in _objects(answer, "replicas")),
    )


@click.command()
@click.argument("job")
@_which_app
@click.option("--json", "as_json", is_flag=True, help="Print JSON (docs/status.md).")
def story(job: str, *, api: str | None, app: str | None, as_json: bool) -> None:
    """Show what happened to JOB (AJ_...), oldest first; ended jobs are kept for a while."""
    address = find_api(api, app)
    answer = _story_of(address, job)
    if as_json:
        console.show_json(answer)
        return
    console.show_table(
        f"Story of {job}",
        ("when", "from", "to", "generation", "host", "cause"),
        (
            (
                _moment(entry.get("at")),
                _shown(entry.get("from_state")),
                _shown(entry.get("to_state")),
                _shown(entry.get("generation")),
                _shown(entry.get("host_id")),
                _shown(entry.get("cause")),
            )
            for entry in _objects(answer, "story")
        ),
    )


@click.command()
@_which_app
@click.option(
    "--deadline",
    type=click.FloatRange(min=0),
    help="Seconds that running calls may take to end (default: the app's drain timeout).",
)
def drain(*, api: str | None, app: str | None, deadline: float | None) -> None:
    """Take no new jobs; the app ends when its last call has ended, or at the deadline."""
    address = find_api(api, app)
    ask(address, "/drain", post={} if deadline is None else {"deadline_s": deadline})
    console.say("draining: no new calls; `voxray status` shows those that still run")


def _story_of(address: ApiAddress, job: str) -> dict[str, Any]:
    try:
        return ask(address, f"/jobs/{quote(job, safe='')}/story")
    except NotFoundError as error:
        raise NotFoundError(
            f"job {job} is unknown to the dispatcher at {address.url}; `voxray status` lists "
            "the live ones, ended ones are kept for a while"
        ) from error


def _dispatcher_row(dispatcher: _Json) -> tuple[str, ...]:
    return (
        _shown(dispatcher.get("app")),
        _shown(dispatcher.get("state")),
        "registered" if dispatcher.get("registered") else "not registered",
        _shown(dispatcher.get("pid")),
        _node(dispatcher.get("node")),
        f"{_shown(dispatcher.get('used'))} of {_shown(dispatcher.get('slots'))}",
        _number(dispatcher.get("load"), 2),
    )


def _host_row(host: _Json) -> tuple[str, ...]:
    return (
        _shown(host.get("id")),
        _shown(host.get("state")),
        str(len(host.get("jobs") or ())),
        _shown(host.get("capacity")),
        _seconds(host.get("loop_lag_s")),
        _shown(host.get("pid")),
        _node(host.get("node")),
    )


def _job_row(job: _Json, host: object) -> tuple[str, ...]:
    return (
        _shown(job.get("id")),
        _shown(job.get("room")),
        _shown(job.get("state")),
        _shown(job.get("generation")),
        _shown(host),
        _seconds(job.get("seconds")),
    )


def _replica_row(replica: _Json) -> tuple[str, ...]:
    state = _shown(replica.get("state"))
    reason = replica.get("reason")
    return (
        _shown(replica.get("id")),
        _shown(replica.get("group")),
        ", ".join(replica.get("engines") or ()),
        f"{state}: {reason}" if reason else state,
        _shown(replica.get("streams")),
        _seconds(replica.get("queue_s")),
        _shown(replica.get("device")),
        _shown(replica.get("pid")),
        _node(replica.get("node")),
    )


def _objects(answer: _Json, key: str) -> Iterable[_Json]:
    """Return a list of objects of an answer; one of another version may lack it."""
    return tuple(each for each in answer.get(key) or () if isinstance(each, dict))


def _shown(value: object) -> str:
    return "-" if value is None or value == "" else str(value)


def _number(value: object, digits: int) -> str:
    return f"{value:.{digits}f}" if isinstance(value, int | float) else "-"


def _seconds(value: object) -> str:
    return f"{_number(value, 1)} s" if isinstance(value, int | float) else "-"


def _node(value: object) -> str:
    """Shorten a Ray node id: its first letters tell nodes apart."""
    return _shown(value)[:8]


def _moment(value: object) -> str:
    if not isinstance(value, int | float):
        return "-"
    return datetime.fromtimestamp(value).astimezone().strftime("%H:%M:%S.%f")[:-3]
