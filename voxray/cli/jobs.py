"""`voxray jobs` and `voxray story`: which calls there are, and what happened to one of them."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import click

from voxray.cli import console
from voxray.cli.api_client import ApiAddress, NotFoundError, ask, find_api
from voxray.cli.options import complete_jobs, which_app
from voxray.cli.shown import JsonObject, moment, objects, seconds, shown

_NAMED = 5
"""Jobs that are named when a prefix means several."""


@click.command()
@which_app
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON (docs/status.md).")
def jobs(*, api: str | None, app: str | None, limit: int, as_json: bool) -> None:
    """List the app's calls: those that run or wait, then the last that ended.

    \b
    Example:
      voxray jobs --limit 10
    """
    found = objects(ask(find_api(api, app), "/jobs"), "jobs")[:limit]
    if as_json:
        console.show_json({"jobs": list(found)})
        return
    console.show_table(
        "Jobs",
        ("id", "room", "state", "outcome", "generation", "host", "for", "last"),
        (
            (
                shown(job.get("id")),
                shown(job.get("room")),
                shown(job.get("state")),
                shown(job.get("outcome")),
                shown(job.get("generation")),
                shown(job.get("host_id")),
                seconds(job.get("seconds")),
                shown(job.get("cause")),
            )
            for job in found
        ),
    )


@click.command()
@click.argument("job", shell_complete=complete_jobs)
@which_app
@click.option("--json", "as_json", is_flag=True, help="Print JSON (docs/status.md).")
def story(job: str, *, api: str | None, app: str | None, as_json: bool) -> None:
    """Show what happened to JOB (AJ_..., or how its id begins), oldest first.

    It may run, wait, or have ended: the last thousand are kept.

    \b
    Example:
      voxray story AJ_4k
    """
    answer = _story_of(find_api(api, app), job)
    if as_json:
        console.show_json(answer)
        return
    console.show_table(
        f"Story of {shown(answer.get('job'))}",
        ("when", "from", "to", "generation", "host", "cause"),
        (
            (
                moment(entry.get("at")),
                shown(entry.get("from_state")),
                shown(entry.get("to_state")),
                shown(entry.get("generation")),
                shown(entry.get("host_id")),
                shown(entry.get("cause")),
            )
            for entry in objects(answer, "story")
        ),
    )


def _story_of(address: ApiAddress, job: str) -> dict[str, Any]:
    try:
        return ask(address, _path(job))
    except NotFoundError as error:
        meant = _begins_with(objects(ask(address, "/jobs"), "jobs"), job)
        if not meant:
            raise NotFoundError(
                f"job {job} is unknown to the dispatcher at {address.url}; `voxray jobs` lists "
                "the live ones and the last that ended"
            ) from error
        if len(meant) > 1:
            raise NotFoundError(
                f"job {job} may be {', '.join(meant[:_NAMED])}"
                + (f" or {len(meant) - _NAMED} others" if len(meant) > _NAMED else "")
                + "; give more of its id"
            ) from error
        return ask(address, _path(meant[0]))


def _begins_with(listed: Sequence[JsonObject], start: str) -> list[str]:
    ids = (str(job.get("id", "")) for job in listed)
    return [job_id for job_id in ids if job_id.startswith(start)]


def _path(job: str) -> str:
    return f"/jobs/{quote(job, safe='')}/story"
