"""`voxray status`: what a running app is doing, at this moment."""

import click

from voxray.cli import console
from voxray.cli.api_client import ask, find_api
from voxray.cli.options import which_app
from voxray.cli.shown import JsonObject, node, number, objects, seconds, shown


@click.command()
@which_app
@click.option("--json", "as_json", is_flag=True, help="Print JSON (docs/status.md).")
def status(*, api: str | None, app: str | None, as_json: bool) -> None:
    """Show the dispatchers, session hosts, calls and inference replicas of an app.

    \b
    Example:
      voxray status
      voxray status --json | jq '.hosts[].jobs[].room'
    """
    answer = ask(find_api(api, app), "/status")
    if as_json:
        console.show_json(answer)
        return
    console.show_table(
        "Dispatchers",
        ("app", "state", "livekit", "pid", "node", "slots", "load"),
        (_dispatcher_row(each) for each in objects(answer, "dispatchers")),
    )
    hosts = objects(answer, "hosts")
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
                *((job, each.get("id")) for each in hosts for job in objects(each, "jobs")),
                *((job, None) for job in objects(answer, "waiting_jobs")),
            )
        ),
    )
    console.show_table(
        "Replicas",
        ("id", "group", "engines", "state", "streams", "queue", "device", "pid", "node"),
        (_replica_row(each) for each in objects(answer, "replicas")),
    )
    for line in (_incomplete(group) for group in objects(answer, "groups")):
        if line:
            click.echo(line)


def _dispatcher_row(dispatcher: JsonObject) -> tuple[str, ...]:
    return (
        shown(dispatcher.get("app")),
        shown(dispatcher.get("state")),
        "registered" if dispatcher.get("registered") else "not registered",
        shown(dispatcher.get("pid")),
        node(dispatcher.get("node")),
        f"{shown(dispatcher.get('used'))} of {shown(dispatcher.get('slots'))}",
        number(dispatcher.get("load"), 2),
    )


def _host_row(host: JsonObject) -> tuple[str, ...]:
    return (
        shown(host.get("id")),
        shown(host.get("state")),
        str(len(host.get("jobs") or ())),
        shown(host.get("capacity")),
        seconds(host.get("loop_lag_s")),
        shown(host.get("pid")),
        node(host.get("node")),
    )


def _job_row(job: JsonObject, host: object) -> tuple[str, ...]:
    return (
        shown(job.get("id")),
        shown(job.get("room")),
        shown(job.get("state")),
        shown(job.get("generation")),
        shown(host),
        seconds(job.get("seconds")),
    )


def _incomplete(group: JsonObject) -> str:
    """Return why a replica group has fewer replicas than it should; nothing when it has all."""
    ready, wanted = group.get("ready"), group.get("wanted")
    if ready == wanted:
        return ""
    reason = shown(group.get("reason") or "more are on their way")
    return f"group {shown(group.get('name'))}: {shown(ready)} of {shown(wanted)} replicas; {reason}"


def _replica_row(replica: JsonObject) -> tuple[str, ...]:
    state = shown(replica.get("state"))
    reason = replica.get("reason")
    return (
        shown(replica.get("id")),
        shown(replica.get("group")),
        ", ".join(replica.get("engines") or ()),
        f"{state}: {reason}" if reason else state,
        shown(replica.get("streams")),
        seconds(replica.get("queue_s")),
        shown(replica.get("device")),
        shown(replica.get("pid")),
        node(replica.get("node")),
    )
