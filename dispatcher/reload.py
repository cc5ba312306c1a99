"""A program that changed while it is written: live calls begin anew with its new version.

As `lk agent dev` does with a stock worker: every job's life cycle is ended, shutdown callbacks
included, and the same job is started again, from its beginning, in the same room. Here the calls
stay with the old version until a host of the new one takes jobs.
"""

from voxray.dispatcher.jobs import UNASSIGNED
from voxray.dispatcher.state import CoreState
from voxray.dispatcher.supervisor import Supervisor

CAUSE = "the program was reloaded"


class Reload:
    """Waits for a host of the new version, then begins the old hosts' jobs anew."""

    def __init__(self, state: CoreState, supervisor: Supervisor) -> None:
        self._state = state
        self._supervisor = supervisor
        self._pending = False

    def begin(self) -> None:
        """The program was changed, and its live calls are to follow."""
        self._pending = True

    def advance(self) -> None:
        """Begin the jobs anew if a host of the new version is ready now."""
        state = self._state
        if not self._pending or not state.accepting or not state.index.ready.hosts:
            return
        self._pending = False
        for job in state.jobs:
            host = state.hosts.get(job.host_id) if job.host_id is not None else None
            if host is None or state.current(host):
                continue
            if job.state not in UNASSIGNED and not job.stop_reason:
                self._supervisor.begin_anew(job, CAUSE)
