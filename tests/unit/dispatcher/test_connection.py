"""The worker connection against a scripted server: reconnects, garbage, half-open sockets, ends."""

import asyncio
import logging
import socket
from dataclasses import replace

import pytest
from livekit.protocol import agent

from tests.fakes.livekit_server import FakeLiveKit
from voxray.actors.contracts import ProgramInfo
from voxray.base.errors import ConfigError, ConnectionFailedError, CredentialsError
from voxray.base.ids import JobId
from voxray.base.settings import LiveKitSettings
from voxray.base.timing import Backoff
from voxray.dispatcher.connection import (
    ConnectionEnded,
    ConnectionOptions,
    Disconnected,
    WorkerConnection,
)
from voxray.dispatcher.dialing import DialOptions
from voxray.dispatcher.messages import (
    AvailabilityRequest,
    AvailabilityResponse,
    JobTermination,
    UpdateJobStatus,
    UpdateWorkerStatus,
)
from voxray.dispatcher.protocol import ProtocolState, Registered
from voxray.dispatcher.worker_socket import SocketTimes

SECRET = "s" * 32
FAST = ConnectionOptions(
    backoff=Backoff(first_s=0.001, limit_s=0.002), dial=DialOptions(close_s=0.1)
)
WS_AVAILABLE = agent.WorkerStatus.WS_AVAILABLE
J1, J2 = JobId("AJ_1"), JobId("AJ_2")


def program(**fields):
    return ProgramInfo(
        path="/agent.py",
        agent_name="desk",
        worker_type=agent.JobType.JT_ROOM,
        permissions=b"",
        has_request_fnc=False,
        drain_timeout_s=1,
        initialize_timeout_s=1,
        shutdown_timeout_s=1,
        session_end_timeout_s=1,
        sdk_version="1.8.9",
        **fields,
    )


class Worker:
    """A connection and the events that it gave."""

    def __init__(self, url, options=FAST, info=None, **settings):
        self._events = asyncio.Queue()
        livekit = LiveKitSettings(url=url, api_key="key", api_secret=SECRET, **settings)
        self.jobs = []
        self.connection = WorkerConnection(
            livekit,
            info or program(),
            self._events.put_nowait,
            active_jobs=lambda: self.jobs,
            options=options,
        )

    async def __aenter__(self):
        await self.connection.start()
        return self

    async def __aexit__(self, *_):
        await self.connection.aclose()
        assert self.connection.health.state is ProtocolState.CLOSED

    async def next(self, kind):
        async with asyncio.timeout(20):
            event = await self._events.get()
        assert isinstance(event, kind), event
        return event

    def no_event(self):
        return self._events.empty()

    def send(self, message):
        self.connection.send(message)


async def test_registers_as_the_program_says_and_answers_offers():
    async with FakeLiveKit() as server, Worker(server.url) as worker:
        link = await server.accept()
        registration = await link.register("AW_1")
        assert (registration.agent_name, registration.version) == ("desk", "1.8.9")
        assert await worker.next(Registered) == Registered(
            worker_id="AW_1", server_version="", region="", reconnect=False
        )
        await link.offer(J1, room="r")
        offer = await worker.next(AvailabilityRequest)
        assert (offer.job_id, offer.room) == (J1, "r")
        worker.send(AvailabilityResponse(job_id=J1, available=True, identity="a"))
        answer = (await link.receive("availability")).availability
        assert (answer.job_id, answer.available) == (J1, True)


async def test_comes_back_after_a_crash_of_the_server_and_tells_what_happened_meanwhile():
    async with FakeLiveKit() as server, Worker(server.url) as worker:
        link = await server.accept()
        await link.register("AW_1")
        await worker.next(Registered)
        worker.jobs.append(J1)
        link.drop()
        await worker.next(Disconnected)
        worker.send(UpdateJobStatus(job_id=J2, status="failed"))
        worker.send(UpdateWorkerStatus(full=False, load=0.1, job_count=1))
        link = await server.accept()
        await link.register("AW_2")
        assert (await worker.next(Registered)).reconnect
        assert list((await link.receive("migrate_job")).migrate_job.job_ids) == [J1]
        assert (await link.receive("update_job")).update_job.job_id == J2
        assert (await link.receive("update_worker")).update_worker.job_count == 1
        assert worker.connection.health.worker_id == "AW_2"


async def test_a_close_in_order_is_no_end():
    async with FakeLiveKit() as server, Worker(server.url) as worker:
        link = await server.accept()
        await link.register()
        await worker.next(Registered)
        await link.close(1001)
        assert "code 1001" in (await worker.next(Disconnected)).reason
        await (await server.accept()).register()
        await worker.next(Registered)


async def test_garbage_is_counted_and_the_connection_goes_on(caplog):
    async with FakeLiveKit() as server, Worker(server.url) as worker:
        link = await server.accept()
        await link.register()
        await worker.next(Registered)
        await link.send_bytes(b"\xff\xff\xff")
        await link.send_bytes(b"")
        await link.send_text("hello")
        await link.send(agent.ServerMessage(termination={"job_id": J1}))
        assert (await worker.next(JobTermination)).job_id == J1
        counters = worker.connection.health.counters
        assert (counters.malformed, counters.unknown) == (2, 1)
    assert sum(record.levelno == logging.WARNING for record in caplog.records) == 2


@pytest.mark.parametrize("garbage", [b"\xff\xff\xff", agent.ServerMessage(pong={}), "hello"])
async def test_a_connection_that_begins_with_something_else_is_left(garbage):
    async with FakeLiveKit() as server, Worker(server.url) as worker:
        link = await server.accept()
        await link.receive("register")
        if isinstance(garbage, str):
            await link.send_text(garbage)
        elif isinstance(garbage, bytes):
            await link.send_bytes(garbage)
        else:
            await link.send(garbage)
        await (await server.accept()).register()
        await worker.next(Registered)


async def test_an_unanswered_registration_has_a_deadline():
    options = replace(FAST, times=SocketTimes(register_s=0.05))
    async with FakeLiveKit() as server, Worker(server.url, options, max_retry=0) as worker:
        await server.accept()
        error = (await worker.next(ConnectionEnded)).error
        assert "did not answer our registration" in str(error)


async def test_a_half_open_socket_is_noticed_by_websocket_pings():
    options = replace(FAST, dial=DialOptions(heartbeat_s=0.05, close_s=0.05))
    async with (
        FakeLiveKit(answers_websocket_pings=False) as server,
        Worker(server.url, options) as worker,
    ):
        await (await server.accept()).register()
        await worker.next(Registered)
        await worker.next(Disconnected)
        await server.accept()


async def test_a_worker_service_that_ceases_to_answer_pings_is_left():
    options = replace(FAST, times=SocketTimes(status_s=0.005))
    async with FakeLiveKit() as server, Worker(server.url, options) as worker:
        link = await server.accept()
        await link.register()
        await worker.next(Registered)
        await link.pong((await link.receive("ping")).ping)
        assert "answers no pings" in (await worker.next(Disconnected)).reason


async def test_a_frame_that_stops_in_the_middle_is_the_end_of_its_connection():
    """Before any ping was answered; all that comes after it is taken for the rest of it."""
    options = replace(FAST, times=SocketTimes(frame_s=0.5), dial=DialOptions(heartbeat_s=0.1))
    async with FakeLiveKit() as server, Worker(server.url, options) as worker:
        link = await server.accept()
        await link.register()
        await worker.next(Registered)
        await link.half_a_frame()
        # It reads, and so answers the pings of the websocket.
        reader = asyncio.create_task(link.receive_all())
        assert "no whole frame" in (await worker.next(Disconnected)).reason
        await reader
        await (await server.accept()).register()
        await worker.next(Registered)


async def test_a_ping_of_the_websocket_is_answered():
    async with FakeLiveKit(answers_websocket_pings=False) as server, Worker(server.url) as worker:
        link = await server.accept()
        await link.register()
        await worker.next(Registered)
        await link.ping(b"there?")
        assert await link.pong_of_ping() == b"there?"


async def test_what_was_sent_is_confirmed_by_the_pong_that_follows_it():
    async with FakeLiveKit() as server, Worker(server.url) as worker:
        link = await server.accept()
        await link.register()
        await worker.next(Registered)
        await link.pong((await link.receive("ping")).ping)
        worker.send(UpdateWorkerStatus(full=False, load=0.0, job_count=0))
        both = [asyncio.create_task(worker.connection.confirm()) for _ in range(2)]
        assert (await link.receive("update_worker")).update_worker.status == WS_AVAILABLE
        ping = (await link.receive("ping")).ping
        assert not any(each.done() for each in both)
        await link.pong(ping)
        async with asyncio.timeout(20):
            await asyncio.gather(*both)


async def test_a_server_that_knows_no_pings_is_asked_for_a_confirmation_once():
    options = replace(FAST, times=SocketTimes(confirm_s=0.05))
    async with FakeLiveKit() as server, Worker(server.url, options) as worker:
        link = await server.accept()
        await link.register()
        await worker.next(Registered)
        await link.receive("ping")
        await worker.connection.confirm()
        await link.receive("ping")
        # Would wait for longer than the test may take.
        worker.connection._options.times.__dict__["confirm_s"] = 1000.0
        await worker.connection.confirm()
        assert worker.no_event()


async def test_pings_measure_the_round_trip_and_the_load_is_repeated():
    options = replace(FAST, times=SocketTimes(status_s=0.005))
    async with FakeLiveKit() as server, Worker(server.url, options) as worker:
        link = await server.accept()
        await link.register()
        await worker.next(Registered)
        assert worker.connection.health.round_trip_s is None
        worker.send(UpdateWorkerStatus(full=False, load=0.2, job_count=1))
        for _ in range(3):
            update = (await link.receive("update_worker")).update_worker
            assert update.job_count == 1
        await link.pong((await link.receive("ping")).ping)
        await link.offer(J1)
        await worker.next(AvailabilityRequest)
        assert worker.connection.health.round_trip_s > 0


@pytest.mark.parametrize("status", [401, 403])
async def test_refused_keys_end_it_at_once(status):
    async with FakeLiveKit() as server:
        server.refuse(status)
        async with Worker(server.url) as worker:
            assert isinstance((await worker.next(ConnectionEnded)).error, CredentialsError)
            assert isinstance(worker.connection.health.error, CredentialsError)
        assert len(server.tokens) == 1


async def test_a_wrong_address_ends_it_at_once():
    async with FakeLiveKit() as server:
        server.refuse(404)
        async with Worker(server.url) as worker:
            error = (await worker.next(ConnectionEnded)).error
            assert "no LiveKit server at this address" in str(error)


async def test_not_found_from_a_server_that_was_there_may_pass():
    async with FakeLiveKit() as server, Worker(server.url) as worker:
        link = await server.accept()
        await link.register()
        await worker.next(Registered)
        server.refuse(404, 503)
        link.drop()
        await worker.next(Disconnected)
        await (await server.accept()).register()
        await worker.next(Registered)


async def test_gives_up_after_max_retry_failures_in_a_row():
    async with FakeLiveKit() as server:
        server.refuse(500, 500, 500)
        async with Worker(server.url, max_retry=2) as worker:
            error = (await worker.next(ConnectionEnded)).error
            assert isinstance(error, ConnectionFailedError)
            assert "3 failed attempts" in str(error)
            assert "500" in str(error)
        assert len(server.tokens) == 3


async def test_a_registration_forgives_earlier_failures():
    async with FakeLiveKit() as server:
        server.refuse(500, 500)
        async with Worker(server.url, max_retry=2) as worker:
            for _ in range(3):
                link = await server.accept()
                await link.register()
                await worker.next(Registered)
                assert worker.connection.health.failures == 0
                server.refuse(500)
                link.drop()
                await worker.next(Disconnected)


async def test_the_program_says_how_often_to_try_unless_the_settings_do():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{probe.getsockname()[1]}"
    for settings, attempts in (({}, 2), ({"max_retry": 0}, 1)):
        async with Worker(url, info=program(max_retry=1), **settings) as worker:
            error = (await worker.next(ConnectionEnded)).error
            assert f"after {attempts} failed attempts" in str(error)
            assert worker.no_event()


async def test_each_failure_is_one_line_that_says_why(caplog):
    async with FakeLiveKit() as server:
        server.refuse(503, 502)
        async with Worker(server.url) as worker:
            await (await server.accept()).register()
            await worker.next(Registered)
    lines = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert [line.getMessage() for line in lines] == ["no connection to livekit; trying again"] * 2
    assert "503" in lines[0].reason
    assert "502" in lines[1].reason


async def test_close_sends_what_waits():
    async with FakeLiveKit() as server:
        async with Worker(server.url) as worker:
            link = await server.accept()
            await link.register()
            await worker.next(Registered)
            read = asyncio.create_task(link.receive_all())
            for number in range(100):
                worker.send(UpdateJobStatus(job_id=JobId(f"AJ_{number}"), status="success"))
        updates = [message for message in await read if message.HasField("update_job")]
        assert len(updates) == 100


async def test_close_is_idempotent_and_gives_no_more_events():
    async with FakeLiveKit() as server, Worker(server.url) as worker:
        await (await server.accept()).register()
        await worker.next(Registered)
        await asyncio.gather(worker.connection.aclose(), worker.connection.aclose())
        worker.send(UpdateJobStatus(job_id=J1, status="success"))
        assert worker.no_event()


async def test_close_before_start_and_while_dialling():
    async with FakeLiveKit() as server:
        await Worker(server.url).connection.aclose()
        async with Worker(server.url):
            pass


async def test_a_server_that_takes_nothing_does_not_hold_up_the_close(caplog):
    options = ConnectionOptions(dial=DialOptions(close_s=0.05))
    async with FakeLiveKit() as server, Worker(server.url, options) as worker:
        link = await server.accept()
        await link.register()
        await worker.next(Registered)
        # Nobody reads at the other end: more than all buffers hold.
        error = "x" * 1_000_000
        for number in range(40):
            worker.send(UpdateJobStatus(job_id=JobId(f"AJ_{number}"), status="failed", error=error))
    assert "livekit did not take our last messages; they are dropped" in caplog.messages


async def test_a_fault_in_handling_an_event_is_logged_and_survived(caplog):
    async with FakeLiveKit() as server:
        handled = asyncio.Queue()

        def handle(event):
            handled.put_nowait(event)
            raise ValueError("bug")

        settings = LiveKitSettings(url=server.url, api_key="key", api_secret=SECRET)
        connection = WorkerConnection(settings, program(), handle, options=FAST)
        await connection.start()
        link = await server.accept()
        await link.register()
        await handled.get()
        await link.offer(J1)
        assert isinstance(await handled.get(), AvailabilityRequest)
        await connection.aclose()
    assert caplog.messages.count("event was not handled") == 2


async def test_missing_keys_make_a_start_impossible():
    connection = WorkerConnection(LiveKitSettings(), program(), lambda _: None)
    with pytest.raises(ConfigError, match="LIVEKIT_URL"):
        await connection.start()
    await connection.aclose()


async def test_no_secret_in_the_logs(caplog):
    caplog.set_level(logging.DEBUG)
    async with FakeLiveKit() as server, Worker(server.url) as worker:
        await (await server.accept()).register()
        await worker.next(Registered)
    written = " ".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records)
    assert SECRET not in written
    assert not any(token in written for token in server.tokens)
