"""What one decision of the dispatcher costs as the fleet grows, in virtual time.

    make bench-placement                    # or: python -m benchmarks.placement_at_scale --help

The real `DispatcherCore` with 10 to 10,000 hosts and 200,000 calls for each size: calls come at
random at 70 % of the slots, run, and end; hosts send heartbeats; every now and then one dies and
its calls are resumed elsewhere. Nothing else is simulated: no process, no network. What is timed
is what the dispatcher does for one input: `handle`, and `next_deadline` to set its timer anew;
in CPU time, so that a busy machine counts for little. The garbage collector is kept as in a
dispatcher (`dispatcher/collector.py`), and its share of the time is told apart.

At its end each case checks that every call has ended once, and that all slots are free again.
"""

import argparse
import gc
import heapq
import itertools
import json
import platform
import random
import statistics
import time
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import psutil

from voxray.actors.contracts import (
    Endpoint,
    HostHeartbeat,
    HostSnapshot,
    JobOrder,
    JobPhase,
    JobStatus,
    ProgramInfo,
)
from voxray.base.ids import HostId, JobId
from voxray.base.settings import HostSettings, InferenceSettings
from voxray.dispatcher import commands as cmd
from voxray.dispatcher import inputs as inp
from voxray.dispatcher.collector import Collector
from voxray.dispatcher.core import DispatcherCore
from voxray.loadtest.report import percentile
from voxray.observability import events as ev

RESULTS = Path(__file__).resolve().parent / "results" / "placement_at_scale.json"
SESSIONS_PER_HOST = 12
UTILISATION = 0.7
CALL_S = 60.0
LOSSES = 200
"""Hosts that die in each case, one for every hundred calls at most."""
HEARTBEAT_S, LEASE_S = 2.0, 8.0
"""A fleet of thousands does not report four times a second, as the default for a small one is."""


class VirtualClock:
    """Time that the simulation sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        """Return the virtual time."""
        return self.now

    def wall(self) -> float:
        """Return the virtual time as Unix seconds."""
        return 1_700_000_000.0 + self.now


class Collections:
    """CPU time that Python's garbage collector takes, in the midst of whatever allocates."""

    def __init__(self) -> None:
        self.nanoseconds = 0
        self.longest = 0
        self._begun = 0

    def __enter__(self) -> Self:
        gc.callbacks.append(self._heard)
        return self

    def __exit__(self, *_: object) -> None:
        gc.callbacks.remove(self._heard)

    def _heard(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._begun = time.thread_time_ns()
        else:
            spent = time.thread_time_ns() - self._begun
            self.nanoseconds += spent
            self.longest = max(self.longest, spent)


class Timings:
    """Nanoseconds of each input, by its kind; `collected` of them were the garbage collector's."""

    def __init__(self) -> None:
        self._of: defaultdict[str, array[int]] = defaultdict(lambda: array("q"))
        self._collected = 0
        self._longest_collected = 0
        self._longest_without = 0

    def add(self, kind: str, nanoseconds: int, collected: int) -> None:
        """Take one measurement."""
        self._of[kind].append(nanoseconds)
        self._collected += collected
        self._longest_collected = max(self._longest_collected, collected)
        self._longest_without = max(self._longest_without, nanoseconds - collected)

    def summary(self) -> dict[str, Any]:
        """Return microseconds and numbers: for decisions, for offers and for heartbeats."""
        decisions = array("q")
        for kind, values in self._of.items():
            if kind != "HostHeartbeatReceived":
                decisions.extend(values)
        everything = sum(sum(values) for values in self._of.values())
        return {
            "inputs": sum(len(values) for values in self._of.values()),
            "decisions_per_second": round(len(decisions) / sum(decisions) * 1e9),
            "core_seconds": round(everything / 1e9, 2),
            "collector": {
                "seconds": round(self._collected / 1e9, 2),
                "longest_us": round(self._longest_collected / 1e3, 2),
                "longest_input_without_us": round(self._longest_without / 1e3, 2),
            },
            "decision": _microseconds(decisions),
            "offer": _microseconds(self._of["Offered"]),
            "loss": _microseconds(self._of["HostLost"]),
            "heartbeat": _microseconds(self._of["HostHeartbeatReceived"]),
        }


class Simulation:
    """One fleet of a size, and calls that come and go."""

    def __init__(self, hosts: int, calls: int, seed: int, *, plain: bool = False) -> None:
        self._plain = plain
        self._size, self._calls = hosts, calls
        self._clock = VirtualClock()
        self._rng = random.Random(seed)
        self._core = DispatcherCore(
            HostSettings(
                sessions_per_host=SESSIONS_PER_HOST,
                min_hosts=hosts,
                max_hosts=hosts + max(2, hosts // 50),
                heartbeat_s=HEARTBEAT_S,
                lease_s=LEASE_S,
                resume_budget=10,
            ),
            InferenceSettings(groups=()),
            _program(),
            self._clock,
            rng=random.Random(seed),
        )
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = 0
        self._alive: dict[HostId, dict[JobId, JobOrder]] = {}
        self._beats: dict[HostId, int] = {}
        self._ends_at: dict[JobId, float] = {}
        self._measuring = False
        self._collections = Collections()
        self.timings = Timings()
        self.ended: Counter[JobId] = Counter()
        self.outcomes: Counter[str] = Counter()

    def run(self) -> dict[str, Any]:
        """Run the case; return its figures.

        Raises:
            RuntimeError: something was left over, or lost.
        """
        collector = Collector()
        collector.start()
        if self._plain:
            collector.stop()
        try:
            with self._collections:
                return self._run()
        finally:
            collector.stop()

    def _run(self) -> dict[str, Any]:
        self._tell(inp.WorkerRegistered(worker_id="AW_1"))
        self._tell(inp.FleetFound())
        self._advance_until(lambda: self._core.snapshot().totals.ready_hosts >= self._size, 1.0)
        begun, self._measuring = self._clock.now, True
        rate = UTILISATION * SESSIONS_PER_HOST * self._size / CALL_S
        self._later(0.0, self._arrive, self._calls, rate)
        losses = min(LOSSES, self._calls // 100)
        for number in range(losses):
            self._later(self._calls / rate * (number + 0.5) / losses, self._kill_one)
        self._advance_until(lambda: self.outcomes["offered"] == self._calls, 10.0)
        self._advance_until(lambda: not self._core.snapshot().totals.jobs, 30.0)
        self._check()
        return {
            "hosts": self._size,
            "virtual_seconds": round(self._clock.now - begun),
            "outcomes": dict(self.outcomes),
            **self.timings.summary(),
        }

    def _check(self) -> None:
        totals = self._core.snapshot().totals
        left = (totals.jobs, totals.waiting_jobs, totals.held_offers, totals.used, totals.reserved)
        if any(left):
            raise RuntimeError(f"something was left over: {totals}")
        if any(self._alive.values()) or self._core.snapshot().unplaced_jobs:
            raise RuntimeError("a host still runs a call that the dispatcher does not know")
        twice = [job_id for job_id, count in self.ended.items() if count != 1]
        if twice or len(self.ended) != self._calls:
            raise RuntimeError(f"{len(self.ended)} of {self._calls} ended, {len(twice)} twice")
        if self.outcomes["resumed"] == 0 or self.outcomes["lost"]:
            raise RuntimeError(f"no call was resumed, or one was lost: {self.outcomes}")

    # Time.

    def _later(self, delay_s: float, what: Callable[..., None], *arguments: Any) -> None:
        self._number += 1
        heapq.heappush(self._events, (self._clock.now + delay_s, self._number, what, arguments))

    def _advance_until(self, done: Callable[[], bool], step_s: float) -> None:
        for _ in range(1_000_000):
            if done():
                return
            self._advance(step_s)
        raise RuntimeError("the simulation does not come to its end")

    def _advance(self, seconds: float) -> None:
        end = self._clock.now + seconds
        while True:
            due = self._events[0][0] if self._events else float("inf")
            deadline = self._core.next_deadline()
            if deadline is not None and deadline < min(due, end):
                self._clock.now = max(self._clock.now, deadline)
                self._tell(inp.Tick())
            elif due <= end:
                at, _, what, arguments = heapq.heappop(self._events)
                self._clock.now = max(self._clock.now, at)
                what(*arguments)
            else:
                break
        self._clock.now = end

    def _tell(self, item: inp.Input) -> None:
        begun, collected = time.thread_time_ns(), self._collections.nanoseconds
        commands = self._core.handle(item)
        self._core.next_deadline()
        spent = time.thread_time_ns() - begun
        if self._measuring:
            collected = self._collections.nanoseconds - collected
            self.timings.add(type(item).__name__, spent, collected)
        for command in commands:
            self._perform(command)

    # What the world does.

    def _arrive(self, left: int, rate: float) -> None:
        self._number += 1
        job_id = JobId(f"AJ_{self._number:012d}")
        self._ends_at[job_id] = self._clock.now + self._rng.expovariate(1 / CALL_S)
        self.outcomes["offered"] += 1
        self._tell(
            inp.Offered(
                job_id=job_id, room=f"room-{job_id}", job=b"", received_at=self._clock.wall()
            )
        )
        if left > 1:
            self._later(self._rng.expovariate(rate), self._arrive, left - 1, rate)

    def _kill_one(self) -> None:
        if not self._alive:
            return
        host_id = self._rng.choice(list(self._alive))
        del self._alive[host_id]
        self.outcomes["hosts_lost"] += 1
        self._tell(inp.HostLost(host_id=host_id, evidence="its stream broke"))

    def _perform(self, command: cmd.Command) -> None:
        match command:
            case cmd.EmitEvent(event=event):
                self._count(event)
            case cmd.AnswerAvailability(job_id=job_id) if command.available:
                assigned = inp.Assigned(job_id=job_id, url="ws://lk", token="token")
                self._later(0.02, self._tell, assigned)
            case cmd.StartHost(host_id=host_id):
                self._later(self._rng.uniform(1.0, 2.0), self._host_up, host_id)
            case cmd.StopHost(host_id=host_id):
                self._alive.pop(host_id, None)
                self._later(0.1, self._tell, inp.HostRetired(host_id=host_id))
            case cmd.StartJob(host_id=host_id, order=order) if host_id in self._alive:
                self._alive[host_id][order.job_id] = order
                life_s = max(0.4, self._ends_at[order.job_id] - self._clock.now)
                for delay_s, phase in (
                    (0.02, JobPhase.STARTING),
                    (0.20, JobPhase.CONNECTED),
                    (0.30, JobPhase.RUNNING),
                    (life_s, JobPhase.ENDED),
                ):
                    self._later(delay_s, self._report, host_id, order, phase)
            case _:
                pass

    def _count(self, event: ev.Event) -> None:
        match event:
            case ev.JobAnswered(outcome=outcome):
                self.outcomes[outcome] += 1
            case ev.JobEnded(job_id=job_id, outcome=outcome):
                self.ended[job_id] += 1
                self.outcomes[outcome] += 1
            case ev.FailoverDone(outcome=outcome):
                self.outcomes[outcome] += 1
            case _:
                pass

    def _host_up(self, host_id: HostId) -> None:
        self._alive[host_id] = {}
        self._beats[host_id] = 0
        endpoint = Endpoint(address=f"{host_id}:1", metrics=f"{host_id}:2", node="n", pid=1)
        self._tell(inp.HostStarted(host_id=host_id, endpoint=endpoint))
        snapshot = HostSnapshot(
            host_id=host_id,
            endpoint=endpoint,
            capacity=SESSIONS_PER_HOST,
            orders=(),
            statuses=(),
        )
        self._tell(inp.HostSnapshotReceived(snapshot=snapshot))
        self._later(self._rng.uniform(0, HEARTBEAT_S), self._beat, host_id)

    def _beat(self, host_id: HostId) -> None:
        if host_id not in self._alive:
            return
        self._beats[host_id] += 1
        beat = HostHeartbeat(
            host_id=host_id, sequence=self._beats[host_id], jobs=len(self._alive[host_id])
        )
        self._tell(inp.HostHeartbeatReceived(heartbeat=beat))
        self._later(HEARTBEAT_S, self._beat, host_id)

    def _report(self, host_id: HostId, order: JobOrder, phase: JobPhase) -> None:
        orders = self._alive.get(host_id)
        if orders is None or orders.get(order.job_id) is not order:
            return
        ended = phase is JobPhase.ENDED
        if ended:
            del orders[order.job_id]
        status = JobStatus(
            job_id=order.job_id,
            generation=order.generation,
            phase=phase,
            outcome="success" if ended else "",
        )
        self._tell(inp.JobReported(host_id=host_id, status=status))


def _program() -> ProgramInfo:
    return ProgramInfo(
        path="/app/agent.py",
        agent_name="",
        worker_type=0,
        permissions=b"",
        has_request_fnc=False,
        drain_timeout_s=60.0,
        initialize_timeout_s=10.0,
        shutdown_timeout_s=10.0,
        session_end_timeout_s=10.0,
        sdk_version="1.8.9",
    )


def _microseconds(values: "array[int]") -> dict[str, float]:
    # The whole of a case is a million values: a percentile of a sorted sample is the same.
    ordered = sorted(values)
    return {
        "count": len(ordered),
        "mean_us": round(statistics.fmean(ordered) / 1e3, 2),
        "p50_us": round(percentile(ordered, 50) / 1e3, 2),
        "p99_us": round(percentile(ordered, 99) / 1e3, 2),
        "max_us": round(ordered[-1] / 1e3, 1),
    }


def _growth(cases: list[dict[str, Any]]) -> dict[str, float]:
    """Return by how much a decision costs more, from each size to the next and 100 to 10,000."""
    of = {case["hosts"]: case for case in cases}
    sizes = sorted(of)
    pairs = list(itertools.pairwise(sizes))
    if 100 in of and 10_000 in of:
        pairs.append((100, 10_000))
    return {
        f"{kind}_{figure}_{small}_to_{large}": round(
            of[large][kind][figure] / of[small][kind][figure], 3
        )
        for kind, figure in (("decision", "mean_us"), ("decision", "p50_us"), ("offer", "p50_us"))
        for small, large in pairs
    }


def main() -> None:
    """Run every size in every round and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, nargs="+", default=[10, 100, 1000, 10_000])
    parser.add_argument("--calls", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument(
        "--plain-collector",
        action="store_true",
        help="leave Python's garbage collector as it is, unlike a dispatcher",
    )
    arguments = parser.parse_args()
    rounds: list[dict[str, Any]] = []
    for number in range(arguments.rounds):
        cases: list[dict[str, Any]] = []
        rounds.append({"cases": cases})
        for hosts in arguments.hosts:
            plain = arguments.plain_collector
            cases.append(Simulation(hosts, arguments.calls, seed=number, plain=plain).run())
            print(json.dumps(cases[-1]), flush=True)
            rounds[-1]["growth"] = _growth(cases)
            # After each case: the last one of a round takes the longest.
            _write(arguments.output, arguments.calls, rounds)
        print(json.dumps(rounds[-1]["growth"], indent=2), flush=True)


def _write(path: Path, calls: int, rounds: list[dict[str, Any]]) -> None:
    report = {
        "machine": {
            "cores": psutil.cpu_count(),
            "python": platform.python_version(),
            "system": platform.system(),
        },
        "calls": calls,
        "sessions_per_host": SESSIONS_PER_HOST,
        "utilisation": UTILISATION,
        "call_s": CALL_S,
        "heartbeat_s": HEARTBEAT_S,
        "rounds": rounds,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
