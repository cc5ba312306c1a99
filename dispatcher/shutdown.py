"""The end: drain or stop now. Jobs first, then hosts, then replicas, then nothing is left."""

from voxray.dispatcher.commands import Drained
from voxray.dispatcher.hosts import HostState
from voxray.dispatcher.jobs import UNASSIGNED
from voxray.dispatcher.membership import Membership
from voxray.dispatcher.offers import OfferDesk
from voxray.dispatcher.replicas import ReplicaSet
from voxray.dispatcher.state import CoreState, Stage
from voxray.dispatcher.supervisor import Supervisor

STOP_GRACE_S = 5.0
"""Added to the program's own shutdown limits before a job is given up."""
FLEET_S = 30.0
"""How long hosts and replicas have to stop before the dispatcher ends without them."""


class Shutdown:
    """Walks through the stages after SERVING.

    Order and reason: jobs before hosts, so that shutdown callbacks run; replicas after the jobs,
    because a farewell still needs a voice; hosts and replicas together, nothing uses either then.
    Only where other dispatchers have calls still, the replicas stay for as long as those may last.
    """

    def __init__(
        self,
        state: CoreState,
        supervisor: Supervisor,
        offers: OfferDesk,
        membership: Membership,
        replicas: ReplicaSet,
    ) -> None:
        self._state = state
        self._supervisor = supervisor
        self._offers = offers
        self._membership = membership
        self._replicas = replicas
        self._deadline: float | None = None
        # Until when replicas are kept for the calls of other dispatchers.
        self._kept_until = 0.0
        self._stopping_all = False

    def drain(self, timeout_s: float) -> None:
        """Take no more jobs and let the running ones end for `timeout_s`, a shorter time wins."""
        state = self._state
        deadline = state.now + timeout_s
        if state.stage is Stage.SERVING:
            state.stage = Stage.DRAINING
            self._deadline = deadline
            self._offers.refuse_all()
        elif state.stage is Stage.DRAINING:
            self._deadline = min(deadline, self._deadline or deadline)
        else:
            return
        self._kept_until = self._deadline + self._limit_s() + FLEET_S

    def now(self) -> None:
        """Cut everything."""
        state = self._state
        if state.stage is Stage.OVER:
            return
        self._kept_until = 0.0
        self._end_jobs("shut down at once")
        self._enter_fleet(force=True)

    def advance(self) -> None:
        """Go on to the next stage once the present one is done, or its time is over."""
        state = self._state
        # One who goes on with a drain that was begun before it has to see first what runs.
        known = state.stage is Stage.DRAINING and state.adopted
        if known and (not len(state.jobs) or self._overdue()):
            self._stop_jobs()
        if state.stage is Stage.STOPPING_JOBS and (not len(state.jobs) or self._overdue()):
            force = bool(len(state.jobs))
            self._end_jobs("did not end in time")
            self._enter_fleet(force=force)
        if state.stage is Stage.STOPPING_FLEET:
            self._stop_fleet(force=False)
            gone = self._stopping_all and not len(state.hosts) and not len(self._replicas)
            if gone or self._overdue():
                state.stage = Stage.OVER
                self._deadline = None
                state.send(Drained())

    def next_deadline(self) -> float | None:
        """Return when the present stage's time is over."""
        state = self._state
        waits = state.stage is Stage.DRAINING and not state.adopted
        return None if waits else self._deadline

    def _limit_s(self) -> float:
        program = self._state.program
        return program.shutdown_timeout_s + program.session_end_timeout_s + STOP_GRACE_S

    def _overdue(self) -> bool:
        return self._deadline is not None and self._state.now >= self._deadline

    def _stop_jobs(self) -> None:
        state = self._state
        state.stage = Stage.STOPPING_JOBS
        self._deadline = state.now + self._limit_s()
        for job in state.jobs:
            if job.state in UNASSIGNED:
                self._offers.withdraw(job, "draining")
            else:
                self._supervisor.stop(job, "the drain's deadline is over")

    def _end_jobs(self, reason: str) -> None:
        for job in self._state.jobs:
            if job.state in UNASSIGNED:
                self._offers.withdraw(job, reason)
            else:
                self._supervisor.give_up(job, reason)

    def _enter_fleet(self, *, force: bool) -> None:
        state = self._state
        state.stage = Stage.STOPPING_FLEET
        self._deadline = self._kept_until
        self._stop_fleet(force=force)

    def _stop_fleet(self, *, force: bool) -> None:
        state = self._state
        if force or state.hosts.count(HostState.STOPPING) < len(state.hosts):
            for host in state.hosts:
                self._membership.stop(host, "shutting down", force=force)
        if not state.peers_over and state.now < self._kept_until:
            return
        if not self._stopping_all:
            self._stopping_all = True
            self._deadline = state.now + FLEET_S
        self._replicas.stop_all()
