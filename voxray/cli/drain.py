"""`voxray drain`: ask a running app to end with its last call, and wait for that."""

import time
from collections.abc import Callable

import click

from voxray.base.errors import ConnectionFailedError, VoxrayError
from voxray.cli import console
from voxray.cli.api_client import ApiAddress, ask, find_api
from voxray.cli.options import which_app
from voxray.cli.shown import objects

_PAUSE_S = 0.5
_OVER = "drained"


@click.command()
@which_app
@click.option(
    "--deadline",
    type=click.FloatRange(min=0),
    help="Seconds that running calls may take to end (default: the app's drain timeout).",
)
@click.option("--wait", is_flag=True, help="Return once the app has ended.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def drain(
    *, api: str | None, app: str | None, deadline: float | None, wait: bool, as_json: bool
) -> None:
    """Take no new jobs; the app ends when its last call has ended, or at the deadline.

    \b
    Example:
      voxray drain --deadline 600 --wait
    """
    address = find_api(api, app)
    ask(address, "/drain", post={} if deadline is None else {"deadline_s": deadline})
    state = "draining"
    if wait:
        with console.progress("draining") as tell:
            state = _until_over(address, tell)
    if as_json:
        console.show_json({"state": state})
    elif wait:
        console.say("drained: the last call has ended")
    else:
        console.say("draining: no new calls; `voxray status` shows those that still run")


def _until_over(address: ApiAddress, tell: Callable[[str], None]) -> str:
    """Wait until the app is over.

    Raises:
        VoxrayError: it failed instead.
    """
    told = -1
    while True:
        try:
            status = ask(address, "/status")
        except ConnectionFailedError:
            # Whoever ran it took it down with its last call.
            return _OVER
        states = {str(each.get("state")) for each in objects(status, "dispatchers")}
        if "failed" in states:
            raise VoxrayError("the app failed while it drained; its output says why")
        if states <= {_OVER}:
            return _OVER
        calls = sum(len(objects(host, "jobs")) for host in objects(status, "hosts"))
        calls += len(objects(status, "waiting_jobs"))
        if calls != told:
            told = calls
            tell(f"draining: {calls} {'call' if calls == 1 else 'calls'} left")
        time.sleep(_PAUSE_S)
