"""A slot is handed on: when is the next job offered, assigned, and its agent seen by the caller?

    python -m benchmarks.handover --trials 5

A worker with one slot on a real livekit-server, without Ray. A call ends in one of several ways,
and LiveKit is told so at once or 4 s late; at the same moment the next job is asked for, by a
dispatch to a room whose caller waits or by a caller who opens a room. Printed for each combination:
how many next jobs were offered within 1.5 s (LiveKit's search ends after 1 s) and later, and the
median and the longest time to each step. Agents publish a track; with `--silent` they do
not, and livekit-server tells the others of them up to 3 s late (`subscriberUpdateInterval`).
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import statistics
import time
from dataclasses import dataclass, field
from typing import TypeAlias

from livekit import api, rtc
from livekit.protocol import models

from voxray.actors.contracts import ProgramInfo
from voxray.base.ids import JobId
from voxray.base.settings import LiveKitSettings
from voxray.cli.home import build_home
from voxray.dispatcher.connection import WorkerConnection, WorkerEvent
from voxray.dispatcher.messages import (
    AvailabilityRequest,
    AvailabilityResponse,
    JobAssignment,
    JobTermination,
    UpdateJobStatus,
    UpdateWorkerStatus,
)
from voxray.loadtest.access import LiveKitAccess, new_room_name
from voxray.loadtest.livekit_server import LiveKitServer, find_or_install

How: TypeAlias = tuple[str, float, str, bool]
"""How a call ends, when LiveKit is told, what comes next, and whether the agents publish."""
ENDS = ("caller leaves, room deleted", "agent leaves", "agent removed")
NEXTS = ("dispatch", "dispatch, load confirmed", "new room")
"""Confirmed: LiveKit has answered a ping that was sent after our load, so it knows of the slot."""
PATIENCE_S = 8.0
IN_TIME_S = 1.5


@dataclass
class Steps:
    """Seconds from asking for the next job to each step; -1 for one that did not come."""

    offered: float = -1.0
    assigned: float = -1.0
    connected: float = -1.0
    seen: float = -1.0


@dataclass
class Slot:
    """The worker's job of now."""

    job_id: JobId
    room: rtc.Room = field(default_factory=rtc.Room)
    offered: float = field(default_factory=time.monotonic)
    assigned: float = 0.0
    connected: float = 0.0
    there: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)


class Worker:
    """A worker with one slot."""

    def __init__(self, server: LiveKitServer) -> None:
        self._server = server
        self._slot: Slot | None = None
        self._filled = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.terminations = 0
        self.publishes = False
        self._connection = WorkerConnection(
            LiveKitSettings(url=server.url, api_key=server.api_key, api_secret=server.api_secret),
            ProgramInfo(
                path="none",
                agent_name="",
                worker_type=0,
                permissions=models.ParticipantPermission(
                    can_subscribe=True, can_publish=True, can_publish_data=True
                ).SerializeToString(),
                has_request_fnc=False,
                drain_timeout_s=1.0,
                initialize_timeout_s=1.0,
                shutdown_timeout_s=1.0,
                session_end_timeout_s=1.0,
                sdk_version="1.8.9",
            ),
            self._event,
        )

    async def start(self) -> None:
        """Register, with a free slot."""
        await self._connection.start()
        self._tell_load()

    async def aclose(self) -> None:
        """Leave."""
        await self._connection.aclose()

    async def filled(self) -> Slot:
        """Wait until the slot's agent is in its room."""
        await self._filled.wait()
        assert self._slot is not None
        slot = self._slot
        await slot.there.wait()
        return slot

    async def confirm(self) -> None:
        """Wait until LiveKit knows our load."""
        await self._connection.confirm()

    def end(self, slot: Slot, told_after_s: float) -> None:
        """A job is over: the slot is free at once, LiveKit is told of the end later."""
        self._slot = None
        self._filled.clear()
        self._tell_load()
        update = UpdateJobStatus(job_id=slot.job_id, status="success")
        if told_after_s:
            asyncio.get_running_loop().call_later(told_after_s, self._connection.send, update)
        else:
            self._connection.send(update)

    def _tell_load(self) -> None:
        full = self._slot is not None
        self._connection.send(
            UpdateWorkerStatus(full=full, load=1.0 if full else 0.0, job_count=int(full))
        )

    def _event(self, event: WorkerEvent) -> None:
        slot = self._slot
        match event:
            case AvailabilityRequest(job_id=job_id):
                free = slot is None
                if free:
                    self._slot = Slot(job_id)
                    self._filled.set()
                self._connection.send(
                    AvailabilityResponse(job_id=job_id, available=free, identity=f"agent-{job_id}")
                )
                if free:
                    self._tell_load()
            case JobAssignment(job_id=job_id, token=token) if slot and slot.job_id == job_id:
                slot.assigned = time.monotonic()
                self._connection.send(UpdateJobStatus(job_id=job_id, status="running"))
                task = asyncio.create_task(self._join(slot, token))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            case JobTermination():
                self.terminations += 1

    async def _join(self, slot: Slot, token: str) -> None:
        slot.room.on("disconnected", lambda _: slot.gone.set())
        await slot.room.connect(self._server.url, token)
        slot.connected = time.monotonic()
        if self.publishes:
            track = rtc.LocalAudioTrack.create_audio_track("voice", rtc.AudioSource(24_000, 1))
            await slot.room.local_participant.publish_track(track)
        slot.there.set()


class Caller:
    """Somebody in a room; knows when an agent came."""

    def __init__(self, access: LiveKitAccess) -> None:
        self.name = new_room_name("handover")
        self._access = access
        self._room = rtc.Room()
        self.agent = asyncio.Event()
        self.agent_at = 0.0

    async def join(self) -> None:
        """Come into the room."""
        self._room.on("participant_connected", self._connected)
        await self._room.connect(self._access.url, self._access.caller_token(self.name, "caller"))
        for each in self._room.remote_participants.values():
            self._connected(each)

    async def leave(self) -> None:
        """Hang up."""
        await self._room.disconnect()

    def _connected(self, participant: rtc.RemoteParticipant) -> None:
        if participant.kind == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT:
            self.agent_at = time.monotonic()
            self.agent.set()


async def trial(worker: Worker, access: LiveKitAccess, livekit: api.LiveKitAPI, how: How) -> Steps:
    """Hand the slot on once."""
    end, told_after_s, then, worker.publishes = how
    first, second = Caller(access), Caller(access)
    await first.join()
    slot = await worker.filled()
    await first.agent.wait()
    if then != "new room":
        # It waits: LiveKit asks nobody while the only worker is full.
        await second.join()
    match end:
        case "agent leaves":
            await slot.room.disconnect()
        case "agent removed":
            await livekit.room.remove_participant(
                api.RoomParticipantIdentity(room=first.name, identity=f"agent-{slot.job_id}")
            )
            await slot.gone.wait()
        case _:
            await first.leave()
            await livekit.room.delete_room(api.DeleteRoomRequest(room=first.name))
            await slot.gone.wait()
    asked = time.monotonic()
    worker.end(slot, told_after_s)
    if then != "new room":
        if then != "dispatch":
            await worker.confirm()
        await livekit.agent_dispatch.create_dispatch(
            api.CreateAgentDispatchRequest(agent_name="", room=second.name)
        )
    else:
        await second.join()
    steps = Steps()
    try:
        async with asyncio.timeout(PATIENCE_S):
            next_slot = await worker.filled()
            await second.agent.wait()
    except TimeoutError:
        next_slot = None
    if next_slot is not None:
        steps = Steps(
            next_slot.offered - asked,
            next_slot.assigned - asked,
            next_slot.connected - asked,
            second.agent_at - asked,
        )
        await next_slot.room.disconnect()
        worker.end(next_slot, 0.0)
    await first.leave()
    await second.leave()
    for room in (first.name, second.name):
        with contextlib.suppress(api.ServerError):
            await livekit.room.delete_room(api.DeleteRoomRequest(room=room))
    return steps


async def run(trials: int, *, silent: bool) -> None:
    """Play all combinations in turn, so that what else the machine does hits them alike."""
    async with LiveKitServer(find_or_install(build_home(os.environ))) as server:
        access = LiveKitAccess(url=server.url, api_key=server.api_key, api_secret=server.api_secret)
        livekit = api.LiveKitAPI(server.url, server.api_key, server.api_secret)
        worker = Worker(server)
        await worker.start()
        found: dict[How, list[Steps]] = {}
        terminated: dict[How, int] = {}
        try:
            for _ in range(trials):
                for how in itertools.product(ENDS, (0.0, 4.0), NEXTS, (not silent,)):
                    before = worker.terminations
                    found.setdefault(how, []).append(await trial(worker, access, livekit, how))
                    terminated[how] = terminated.get(how, 0) + worker.terminations - before
        finally:
            await worker.aclose()
            await livekit.aclose()
            for how, steps in found.items():
                show(how, steps, terminated.get(how, 0))


def show(how: How, steps: list[Steps], terminations: int) -> None:
    """Print one combination as a line of JSON."""
    offered = [each.offered for each in steps if each.offered >= 0]
    line = {
        "end": how[0],
        "told_after_s": how[1],
        "next": how[2],
        "publishes": how[3],
        "trials": len(steps),
        "in_time": sum(each <= IN_TIME_S for each in offered),
        "late": sum(each > IN_TIME_S for each in offered),
        "terminations": terminations,
    }
    for name in ("offered", "assigned", "connected", "seen"):
        times = [getattr(each, name) for each in steps if each.offered >= 0] or [-1.0]
        line[name] = [round(statistics.median(times), 3), round(max(times), 3)]
    print(json.dumps(line), flush=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--trials", type=int, default=5, help="of each combination")
    parser.add_argument("--silent", action="store_true", help="agents publish nothing")
    arguments = parser.parse_args()
    asyncio.run(run(arguments.trials, silent=arguments.silent))


if __name__ == "__main__":
    main()
