"""The whole dispatcher against a LiveKit server that misbehaves on real sockets in every way that
a server or what lies before it can: it always comes back, and no slot stays taken."""

import asyncio
import contextlib
import random
import secrets
from dataclasses import replace
from functools import partial

import pytest
from aiohttp import WSMsgType, web
from livekit.protocol import agent

from tests.fakes.dispatch_world import program
from tests.fakes.fleet import FakeFleet, endpoint
from voxray.actors.contracts import (
    AcceptArguments,
    Endpoint,
    HostSnapshot,
    JobChanged,
    JobOrder,
    JobPhase,
    JobStatus,
    ProgramInfo,
    RequestAnswer,
)
from voxray.base.ids import HostId, JobId
from voxray.base.settings import (
    HostSettings,
    HttpSettings,
    InferenceSettings,
    LiveKitSettings,
    Settings,
)
from voxray.base.timing import Backoff, SystemClock
from voxray.dispatcher import offers, registration, service
from voxray.dispatcher.connection import ConnectionOptions
from voxray.dispatcher.dialing import DialOptions
from voxray.dispatcher.service import Access, DispatcherService
from voxray.dispatcher.worker_socket import SocketTimes

pytestmark = pytest.mark.timeout(120)

SLOTS = 8
CONNECTIONS = 60
JOBS = [f"AJ_{number}" for number in range(12)]
FAST = ConnectionOptions(
    dial=DialOptions(dial_s=0.3, heartbeat_s=0.2, close_s=0.05),
    times=SocketTimes(register_s=0.3, status_s=0.02),
    backoff=Backoff(first_s=0.001, limit_s=0.005),
)


class ObedientFleet(FakeFleet):
    """Hosts that start at once and run every job until they are told to end it."""

    async def start_host(self, host_id: HostId, program: ProgramInfo) -> Endpoint:
        snapshot = HostSnapshot(
            host_id=host_id, endpoint=endpoint(host_id), capacity=SLOTS, orders=(), statuses=()
        )
        self.report(host_id, snapshot)
        return endpoint(host_id)

    async def request(self, host_id: HostId, job: bytes) -> RequestAnswer:
        return RequestAnswer(accept=AcceptArguments(identity="agent"))

    async def start_job(self, host_id: HostId, order: JobOrder) -> None:
        self._tell(host_id, order.job_id, order.generation, JobPhase.RUNNING)
        self._tell(host_id, order.job_id, order.generation, JobPhase.ENDED)

    async def stop_job(self, host_id: HostId, job_id: JobId, generation: int, reason: str) -> None:
        self._tell(host_id, job_id, generation, JobPhase.ENDED)

    def _tell(self, host_id: HostId, job_id: JobId, generation: int, phase: JobPhase) -> None:
        outcome = "success" if phase is JobPhase.ENDED else ""
        status = JobStatus(job_id=job_id, generation=generation, phase=phase, outcome=outcome)
        self.report(host_id, JobChanged(status=status))


def message(**fields) -> bytes:
    return agent.ServerMessage(**fields).SerializeToString()


def offer(job_id: str) -> bytes:
    return message(availability={"job": {"id": job_id, "room": {"name": "room"}}})


def assignment(job_id: str) -> bytes:
    return message(assignment={"job": {"id": job_id}, "token": "t"})


class Chaos:
    """A server that picks a misbehaviour for each connection; well-behaved once it is `tame`."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self.port = 0
        self.connections = 0
        self.seen: set[str] = set()
        self.tame = False
        self.worn_out = asyncio.Event()
        self.registered: asyncio.Queue[web.WebSocketResponse] = asyncio.Queue()
        self.heard: asyncio.Queue[agent.WorkerMessage] = asyncio.Queue()
        self.over = asyncio.Event()
        self.refusals = (401, 403, 404, 500, 503, 302, 307, 200)
        self.habits = (
            self.silent,
            self.garbage_first,
            self.closes_before_it_answers,
            self.babbles,
            self.babbles,
            self.babbles,
            self.half_a_frame,
            self.half_open,
            self.huge,
            self.twice,
        )

    async def serve(self, request: web.Request) -> web.StreamResponse:
        if request.path != "/agent":
            return web.Response(status=200, text="somewhere else")
        if not self.tame and self.connections:
            self.connections += 1
            if self.connections > CONNECTIONS:
                self.worn_out.set()
            if self._rng.random() < 0.3:
                return self.refuse()
            # Each at least once, then as chance has it.
            unseen = [each for each in self.habits if each.__name__ not in self.seen]
            habit = self._rng.choice(unseen or self.habits)
        else:
            # The first one is well-behaved: an app whose LiveKit never was there ends at once.
            self.connections += 1
            habit = self.behaves
        self.seen.add(habit.__name__)
        ws = web.WebSocketResponse(autoping=habit != self.half_open, max_msg_size=0)
        await ws.prepare(request)
        # The worker may be faster, and gone.
        with contextlib.suppress(ConnectionError, RuntimeError, TypeError, TimeoutError):
            await habit(request, ws)
        return ws

    def refuse(self) -> web.Response:
        status = self._rng.choice(self.refusals)
        self.seen.add(str(status))
        places = {302: "/elsewhere", 307: "/agent"}
        return web.Response(status=status, headers={"Location": places.get(status, "/")})

    async def register(self, ws: web.WebSocketResponse) -> None:
        await ws.receive()
        await ws.send_bytes(message(register={"worker_id": f"AW_{secrets.token_hex(3)}"}))

    async def silent(self, request: web.Request, ws: web.WebSocketResponse) -> None:
        while (await ws.receive()).type is WSMsgType.BINARY:
            pass

    async def garbage_first(self, request: web.Request, ws: web.WebSocketResponse) -> None:
        await ws.send_bytes(self._rng.randbytes(self._rng.randrange(200)))
        await self.silent(request, ws)

    async def closes_before_it_answers(
        self, request: web.Request, ws: web.WebSocketResponse
    ) -> None:
        await ws.close(code=self._rng.choice([1000, 1001, 1011, 4000]))

    async def babbles(self, request: web.Request, ws: web.WebSocketResponse) -> None:
        """Anything in any order, then some kind of end."""
        await self.register(ws)
        for _ in range(self._rng.randrange(60)):
            await self.say(ws)
        if self._rng.random() < 0.5:
            request.transport.abort()
        else:
            await ws.close()

    async def say(self, ws: web.WebSocketResponse) -> None:
        job = self._rng.choice(JOBS)
        data = self._rng.choice(
            [
                offer(job),
                offer(job),
                assignment(job),
                assignment(job),
                message(termination={"job_id": job}),
                message(register={"worker_id": "AW_again"}),
                message(pong={"last_timestamp": 5}),
                message(availability={}),
                self._rng.randbytes(30),
                b"",
            ]
        )
        match self._rng.randrange(12):
            case 0:
                await ws.send_str(data.hex())
            case 1:
                await ws.send_bytes(data[: len(data) // 2])
            case 2:
                await ws.ping()
            case 3:
                await asyncio.wait_for(ws.receive(), 1.0)
            case _:
                await ws.send_bytes(data)

    async def half_a_frame(self, request: web.Request, ws: web.WebSocketResponse) -> None:
        await self.register(ws)
        while (ping := agent.WorkerMessage.FromString(await ws.receive_bytes())).WhichOneof(
            "message"
        ) != "ping":
            pass
        await ws.send_bytes(message(pong={"last_timestamp": ping.ping.timestamp}))
        # A binary frame that promises 16 KiB and brings one byte. Pongs of the websocket go on, as
        # a proxy might send them, but are swallowed by the frame; the worker service is silent.
        request.transport.write(b"\x82\x7e\x40\x00x")
        await self.silent(request, ws)

    async def half_open(self, request: web.Request, ws: web.WebSocketResponse) -> None:
        """Registers, takes offers' answers no more: nothing is read and nothing is said."""
        await self.register(ws)
        for job in JOBS[:3]:
            await ws.send_bytes(offer(job))
        request.transport.pause_reading()
        await asyncio.wait_for(self.over.wait(), 3.0)

    async def huge(self, request: web.Request, ws: web.WebSocketResponse) -> None:
        await self.register(ws)
        await ws.send_bytes(bytes(6 * 2**20))
        await self.silent(request, ws)

    async def twice(self, request: web.Request, ws: web.WebSocketResponse) -> None:
        await self.register(ws)
        for job in JOBS[:4]:
            for data in (assignment(job), offer(job), offer(job), assignment(job), assignment(job)):
                await ws.send_bytes(data)
        await ws.close()

    async def behaves(self, request: web.Request, ws: web.WebSocketResponse) -> None:
        await self.register(ws)
        self.registered.put_nowait(ws)
        if not self.tame:
            return
        async for got in ws:
            self.heard.put_nowait(agent.WorkerMessage.FromString(got.data))


def dispatcher(url: str, fleet: FakeFleet) -> DispatcherService:
    settings = Settings(
        livekit=LiveKitSettings(url=url, api_key="key", api_secret="s" * 32),
        hosts=HostSettings(sessions_per_host=SLOTS, min_hosts=1, max_hosts=2, lease_s=3600.0),
        inference=InferenceSettings(groups=()),
        http=HttpSettings(port=0),
    )
    access = Access(token="token")
    return DispatcherService(
        settings, program(has_request_fnc=True), fleet, access=access, clock=SystemClock()
    )


async def until_free(app: DispatcherService) -> None:
    """Wait until no job is left. Whatever frees a slot is an event."""
    cursor = 0
    while (totals := app._core.snapshot().totals).jobs:
        cursor = (await app._log.wait(cursor, 1.0)).cursor
    assert (totals.reserved, totals.used, totals.held_offers) == (0, 0, 0)
    assert totals.slots >= SLOTS


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_livekit_that_misbehaves_takes_no_slot_away(
    seed: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(registration, "ConnectionOptions", lambda dial: replace(FAST))
    made = registration.Registration
    monkeypatch.setattr(service, "Registration", partial(made, pause_s=0.01))
    monkeypatch.setattr(offers, "ASSIGNMENT_S", 0.3)
    chaos = Chaos(seed)
    site = web.Application()
    site.router.add_route("*", "/{path:.*}", chaos.serve)
    runner = web.AppRunner(site, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    app = dispatcher(f"ws://127.0.0.1:{runner.addresses[0][1]}", ObedientFleet())
    try:
        async with asyncio.timeout(60):
            await app.start()
            await chaos.worn_out.wait()
            chaos.tame = True
            while True:
                # A connection that began before may be among them.
                ws = await chaos.registered.get()
                if not ws.closed:
                    break
            await until_free(app)
            await serves(chaos, ws)
            await until_free(app)
    finally:
        chaos.over.set()
        await app.aclose()
        await runner.cleanup()
    assert chaos.seen >= {habit.__name__ for habit in chaos.habits}
    faults = [record for record in caplog.records if record.exc_info]
    assert not faults, [record.getMessage() for record in faults]


async def serves(chaos: Chaos, ws: web.WebSocketResponse) -> None:
    """As many new jobs as there are slots are accepted, run, and reported as ended."""
    jobs = [f"AJ_new_{number}" for number in range(SLOTS)]
    for job in jobs:
        await ws.send_bytes(offer(job))
    accepted, ended = set(), set()
    while len(ended) < len(jobs):
        heard = await chaos.heard.get()
        match heard.WhichOneof("message"):
            case "availability" if heard.availability.job_id in jobs:
                assert heard.availability.available, heard
                accepted.add(heard.availability.job_id)
                await ws.send_bytes(assignment(heard.availability.job_id))
            case "update_job" if heard.update_job.status == agent.JobStatus.JS_SUCCESS:
                ended.add(heard.update_job.job_id)
    assert accepted == ended == set(jobs)
