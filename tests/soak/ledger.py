"""The books of a run of jobs: what was begun, what each became, and whether all of it adds up."""

import asyncio
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.running_app import RunningApp

_COUNTER = re.compile(r'^(voxray_\w+_total)(?:\{\w+="([^"]*)"\})? ([\d.e+]+)$', re.MULTILINE)


@dataclass
class JobRecord:
    """A job, by its events."""

    room: str
    answers: list[str] = field(default_factory=list)
    placed: int = 0
    running: int = 0
    ends: list[tuple[str, str]] = field(default_factory=list)


class Ledger:
    """Follows the dispatcher's events from the first on."""

    def __init__(self, app: RunningApp) -> None:
        self._app = app
        self.jobs: dict[str, JobRecord] = {}
        self.offers = 0
        self.other: Counter[str] = Counter()
        self._by_room: dict[str, str] = {}
        self._changed = asyncio.Event()
        self._cursor = 0

    async def follow(self) -> None:
        """Take events in, for ever."""
        while True:
            page = await self._app.get("/events", after=str(self._cursor), wait="2")
            for event in page["events"]:
                assert event["cursor"] == self._cursor + 1, "an event was missed"
                self._cursor = event["cursor"]
                self._take(event)
            self._changed.set()
            self._changed = asyncio.Event()

    async def running(self, room: str) -> None:
        """Wait until the job of a room is heard, or over."""
        await self._until(lambda job: bool(job.running or job.ends), room)

    def offered(self, room: str) -> bool:
        """Return whether a room's job was offered."""
        return room in self._by_room

    async def all_ended(self) -> None:
        """Wait for the end of all jobs that were offered."""
        for job in list(self.jobs.values()):
            await self.ended(job.room)

    async def ended(self, room: str) -> JobRecord:
        """Wait for the end of the job of a room."""
        return await self._until(lambda job: bool(job.ends), room)

    def faults(self, metrics: str, status: Mapping[str, Any]) -> list[str]:
        """Return everything that does not add up, once nothing is under way any more."""
        faults = [
            f"{job_id}: {fault}" for job_id, job in self.jobs.items() if (fault := _fault_of(job))
        ]
        counted: dict[str, Counter[str]] = {}
        for name, label, value in _COUNTER.findall(metrics):
            counted.setdefault(name, Counter())[label] = int(float(value))
        answers = Counter(answer for job in self.jobs.values() for answer in job.answers)
        ends = Counter(outcome for job in self.jobs.values() for outcome, _ in job.ends)
        placed = sum(job.placed for job in self.jobs.values())
        for what, ours, theirs in (
            ("offers", self.offers, sum(counted["voxray_job_offers_total"].values())),
            ("answers", answers, counted["voxray_job_answers_total"]),
            ("ends", ends, counted["voxray_jobs_ended_total"]),
            ("placements", placed, sum(counted["voxray_job_placements_total"].values())),
            ("jobs that ended", len(self.jobs), sum(ends.values())),
            ("accepted and not assigned", answers["accepted"] - self._assigned(), self.unassigned),
        ):
            if ours != theirs:
                faults.append(f"{what}: {ours} by the events, {theirs} otherwise")
        dispatcher = status["dispatchers"][0]
        left = [job["id"] for host in status["hosts"] for job in host["jobs"]]
        if dispatcher["used"] or dispatcher["reserved"] or left or status["waiting_jobs"]:
            faults.append(f"not over: {dispatcher}, {left}, {status['waiting_jobs']}")
        return faults

    @property
    def unassigned(self) -> int:
        """Jobs that we took and LiveKit did not give us."""
        return sum(
            "accepted" in job.answers and not job.placed and job.ends[-1][0] == "rejected"
            for job in self.jobs.values()
        )

    def _assigned(self) -> int:
        return sum(bool(job.placed) for job in self.jobs.values())

    def summary(self) -> dict[str, Any]:
        """Return the counts."""
        return {
            "offers": self.offers,
            "jobs": len(self.jobs),
            "answers": dict(Counter(a for job in self.jobs.values() for a in job.answers)),
            "accepted_and_not_assigned": self.unassigned,
            "placed": sum(job.placed for job in self.jobs.values()),
            "heard": sum(bool(job.running) for job in self.jobs.values()),
            "ended": dict(Counter(o for job in self.jobs.values() for o, _ in job.ends)),
            "other_events": dict(self.other),
        }

    async def _until(self, condition: Any, room: str) -> JobRecord:
        try:
            async with asyncio.timeout(90):
                while True:
                    changed = self._changed
                    job_id = self._by_room.get(room)
                    if job_id is not None and condition(self.jobs[job_id]):
                        return self.jobs[job_id]
                    await changed.wait()
        except TimeoutError:
            known = self.jobs.get(self._by_room.get(room, ""))
            raise AssertionError(f"{room} never came so far: {known}") from None

    def _take(self, event: dict[str, Any]) -> None:
        kind, job_id = event["type"], event.get("job_id")
        if kind == "JobOffered":
            self.offers += 1
            self.jobs.setdefault(job_id, JobRecord(room=event["room"]))
            self._by_room[event["room"]] = job_id
        elif kind == "JobAnswered":
            self.jobs[job_id].answers.append(event["outcome"])
        elif kind == "JobPlaced":
            self.jobs[job_id].placed += 1
        elif kind == "JobRunning":
            self.jobs[job_id].running += 1
        elif kind == "JobEnded":
            self.jobs[job_id].ends.append((event["outcome"], event["reason"]))
        else:
            self.other[kind] += 1


def _fault_of(job: JobRecord) -> str:
    """Return what is wrong with the books of one job: each is answered once and ends once."""
    if len(job.ends) != 1:
        return f"ended {len(job.ends)} times: {job.ends}"
    ((outcome, _),) = job.ends
    if len(job.answers) > 1:
        return f"answered {job.answers}"
    if job.placed > 1:
        return f"placed {job.placed} times, though nothing was lost"
    refused = job.answers != ["accepted"]
    if refused and (job.placed or outcome != "rejected"):
        return f"answered {job.answers}, placed {job.placed} times and ended {outcome}"
    if job.placed and outcome == "rejected":
        return "placed and rejected"
    return ""
