"""The run of jobs of random fates, and what it shares with the run of calls."""

import asyncio
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from livekit import api

from tests.dispatched import Dispatches, Neighbour
from tests.running_app import PROGRAMS, RunningApp, voxray_app
from tests.soak.growth import Growth, Sample, Verdict, count_faults, counts, fit, sample
from tests.soak.ledger import Ledger
from voxray.loadtest.livekit_server import LiveKitServer

PROGRAM = PROGRAMS / "troublemaker.py"
_JOBS_AT_ONCE = 8
_HANG_UP_S = 0.4
# A join that outlives its job holds what belongs to it, until LiveKit's runtime gives it up (15 s).
_COUNT_EVERY_S = 5.0
_COUNTS = 5
ALONE = {"JobContext": 1, "JobTask": 1, "Room": 1, "JobDriver": 1, "TaskScope": 1, "of echo": 1}
"""What belongs to calls when only the job that counts is there."""
_ENOUGH_JOBS = 500

# What a job does, how often, and how it may end. `hang_up` and `delete` are done to jobs that would
# stay: at any moment of their lives, so that they may end before they were taken.
ANY_END = {"success", "failed", "rejected"}
FATES: Mapping[str, tuple[int, set[str]]] = {
    "quit": (6, {"success"}),
    "session": (2, {"success"}),
    "raise": (2, {"failed"}),
    "raise_unconnected": (1, {"failed"}),
    "raise_in_shutdown": (1, {"success"}),
    "exit:3": (1, {"failed"}),
    "cancel_all": (1, {"failed"}),
    "lose_room": (1, {"success"}),
    "second_room": (1, {"success"}),
    "request_reject": (2, {"rejected"}),
    "request_terminate": (1, {"rejected"}),
    "request_raise": (1, {"rejected"}),
    "hang_up": (3, ANY_END),
    "hang_up_heard": (2, {"success"}),
    "delete": (3, ANY_END),
    "delete_heard": (2, {"success"}),
}


@dataclass
class Run:
    """One run: its app, its books, and samples of its processes."""

    app: RunningApp
    dispatches: Dispatches
    ledger: Ledger
    pids: dict[str, int]
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    processes: list[int] = field(default_factory=list)
    fates: dict[str, Counter[str]] = field(default_factory=dict)
    done: int = 0

    def became(self, kind: str, outcome: str) -> None:
        """Keep what became of a job of a kind."""
        self.fates.setdefault(kind, Counter())[outcome] += 1

    def look(self) -> None:
        """Sample the processes."""
        for role, pid in self.pids.items():
            self.samples.setdefault(role, []).append(sample(pid, self.done))
        self.processes.append(len(self.app.processes()))

    def sizes(self) -> dict[str, dict[str, float]]:
        """Return the memory of the processes at the start, in the middle and at the end, in MiB."""
        return {
            role: {
                "start": round(each[0].rss_mib, 1),
                "middle": round(each[len(each) // 2].rss_mib, 1),
                "end": round(each[-1].rss_mib, 1),
            }
            for role, each in self.samples.items()
        }

    def growth(self, *, after: int) -> dict[str, Growth]:
        """Return the lines through the resident memory of the processes."""
        return {
            role: fit([(one.calls, one.rss_mib) for one in each], after=after)
            for role, each in self.samples.items()
        }

    def processes_begun(self) -> dict[str, int]:
        """Return how many processes the app had at the start, and the least in the last third."""
        last = self.processes[-max(1, len(self.processes) // 3) :]
        return {"start": self.processes[0], "end": min(last)}


@asynccontextmanager
async def started(server: LiveKitServer, home: Path) -> AsyncIterator[Run]:
    environment = {
        "VOXRAY_HOSTS__MAX_HOSTS": "1",
        # Jobs of callers who hung up hold theirs a while; LiveKit offers nothing to a full app.
        "VOXRAY_HOSTS__SESSIONS_PER_HOST": "48",
        "VOXRAY_TELEMETRY__LOG_LEVEL": "ERROR",
        # A busy machine is no silent host: one that is killed takes with it what it kept.
        "VOXRAY_HOSTS__LEASE_S": "60",
    }
    async with (
        voxray_app(server, home, PROGRAM, environment=environment) as app,
        Dispatches(server) as dispatches,
    ):
        status = await app.until_status(lambda now: now["hosts"][0]["state"] == "ready")
        pids = {"host": status["hosts"][0]["pid"], "dispatcher": status["dispatchers"][0]["pid"]}
        ledger = Ledger(app)
        follower = asyncio.create_task(ledger.follow(), name="ledger")
        follower.add_done_callback(_tell)
        try:
            yield Run(app=app, dispatches=dispatches, ledger=ledger, pids=pids)
        finally:
            follower.cancel()
            with suppress(asyncio.CancelledError):
                await follower


def _tell(follower: asyncio.Task[None]) -> None:
    if not follower.cancelled() and (error := follower.exception()) is not None:
        sys.stderr.write(f"the books are not kept any more: {error!r}\n")


async def at_once(
    count: int, limit: int, one: Callable[[int], Awaitable[None]], every: Callable[[], None]
) -> None:
    """Run `one` for each number, `limit` at a time; call `every` whenever `limit` are done."""
    numbers = iter(range(count))

    async def lane() -> None:
        for number in numbers:
            await one(number)
            if number % limit == limit - 1:
                every()

    async with asyncio.TaskGroup() as lanes:
        for _ in range(limit):
            lanes.create_task(lane())


async def run_jobs(server: LiveKitServer, home: Path, jobs: int, *, seed: int) -> dict[str, Any]:
    """Run jobs of random fates, each fate once at least, and return the books.

    `faults` in them is what does not add up.
    """
    rng = random.Random(seed)
    more = rng.choices(list(FATES), [weight for weight, _ in FATES.values()], k=jobs - len(FATES))
    kinds = [*FATES, *more]
    rng.shuffle(kinds)
    pauses = [rng.uniform(0, _HANG_UP_S) for _ in kinds]
    async with started(server, home) as run:

        async def one(number: int) -> None:
            await _one_job(run, f"soak-{seed}-{number}", kinds[number], pauses[number])
            run.done += 1

        run.look()
        await at_once(jobs, _JOBS_AT_ONCE, one, run.look)
        await run.ledger.all_ended()
        status = await run.app.until_status(is_over)
        faults = [*run.wrong, *run.ledger.faults(await run.app.get("/metrics"), status)]
        faults += [
            f"{kind} happened"
            for kind in ("HostLost", "HostStartFailed")
            if kind in run.ledger.other
        ]
        faults += await _still_there(run)
        objects = (await counted(run, server, f"soak-{seed}-count"))["objects"]
        faults += [f"left: {more}" for more in [more_than(ALONE, objects)] if more]
        processes = run.processes_begun()
        if processes["end"] > processes["start"]:
            faults.append(f"more processes: {processes}")
        # Before half of it caches fill and the allocator finds its size.
        growth = run.growth(after=jobs // 2)
        least = {role: counts(each, after=jobs // 2) for role, each in run.samples.items()}
        if jobs >= _ENOUGH_JOBS:
            faults += [
                f"{role}: {each.verdict}, {each.to_json()}"
                for role, each in growth.items()
                if each.verdict is not Verdict.FLAT
            ]
            for role, each in least.items():
                faults += count_faults(role, each)
        return {
            "seed": seed,
            "jobs": jobs,
            "kinds": dict(Counter(kinds)),
            "fates": {kind: dict(each) for kind, each in sorted(run.fates.items())},
            "books": run.ledger.summary(),
            "slots": {name: status["dispatchers"][0][name] for name in ("used", "reserved")},
            "objects_left": objects,
            "processes": processes,
            "rss_mib": run.sizes(),
            "growth": {role: each.to_json() for role, each in growth.items()},
            "least": least,
            "faults": faults,
        }


async def _one_job(run: Run, room: str, kind: str, pause_s: float) -> None:
    action = "delete" if kind.startswith("delete") else "close"
    stays = kind.startswith(("hang_up", "delete"))
    dispatch = await run.dispatches.start(room, "stay" if stays else kind)
    if stays:
        if kind.endswith("_heard"):
            await run.ledger.running(room)
        else:
            # The moment of the hang-up is what is random here; nothing is waited for.
            await asyncio.sleep(pause_s)
        with _gone_already():
            if action == "delete":
                await run.dispatches.delete(dispatch, room)
            else:
                await run.dispatches.close_room(room)
        if not run.ledger.offered(room):
            # Ended before LiveKit offered it; an offer that is on its way is in the books later.
            run.became(kind, "not offered by then")
            return
    job = await run.ledger.ended(room)
    outcome, reason = job.ends[0]
    run.became(kind, outcome)
    if outcome not in FATES[kind][1]:
        run.wrong.append(f"{room} ({kind}) ended {outcome}: {reason}")
    if not kind.startswith("hang_up"):
        # A room whose agent is gone would be waited for, and a new agent looked for.
        with _gone_already():
            await run.dispatches.close_room(room)


async def _still_there(run: Run) -> list[str]:
    """Return who is still in a room that a job had opened beside its own."""
    rooms = (await run.dispatches.livekit.room.list_rooms(api.ListRoomsRequest())).rooms
    faults = []
    for room in rooms:
        if room.name.endswith("-other"):
            asked = api.ListParticipantsRequest(room=room.name)
            with _gone_already():
                found = await run.dispatches.livekit.room.list_participants(asked)
                faults += [f"{one.identity} is still in {room.name}" for one in found.participants]
    return faults


@contextmanager
def _gone_already() -> Iterator[None]:
    """Let LiveKit say that what is to be deleted is not there: it went with the job's end."""
    try:
        yield
    except api.ServerError as error:
        if error.code != api.ServerErrorCode.NOT_FOUND:
            raise


async def counted(
    run: Run, server: LiveKitServer, room: str, known: Mapping[str, int] = ALONE
) -> dict[str, Any]:
    """Return what is alive in the host and what it needs, told by a call of its own.

    Args:
        known: counts that it is not waited for to fall below.
    """
    async with Neighbour(server, room) as counter:
        await run.dispatches.start(room, "echo")
        await counter.greeted()
        answer: dict[str, Any] = {}
        for _ in range(_COUNTS):
            answer = await counter.ask("count")
            if not more_than(known, answer["objects"]):
                break
            # Nothing tells that a join of an ended job is over; the next look is one interval away.
            await asyncio.sleep(_COUNT_EVERY_S)
    await run.dispatches.close_room(room)
    await run.ledger.ended(room)
    return {"objects": answer["objects"], "memory": answer["memory"]}


def more_than(known: Mapping[str, int], objects: Mapping[str, int]) -> dict[str, int]:
    """Return the counts that are higher than known ones."""
    return {name: count for name, count in objects.items() if count > known.get(name, 0)}


def is_over(status: Mapping[str, Any]) -> bool:
    dispatcher = status["dispatchers"][0]
    return not (
        dispatcher["used"]
        or dispatcher["reserved"]
        or status["waiting_jobs"]
        or any(host["jobs"] for host in status["hosts"])
    )
