"""The control stream, over real gRPC on loopback."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from voxray.actors import control
from voxray.actors.contracts import Endpoint, HostHeartbeat, HostSnapshot, JobChanged, JobStatus
from voxray.actors.control import ControlServer, ReportHub, watch
from voxray.base.errors import ConnectionFailedError, PortTakenError
from voxray.base.ids import HostId

ENDPOINT = Endpoint(address="127.0.0.1:1", metrics="127.0.0.1:2", node="n", pid=1)
HEARTBEAT_S = 0.01
NEVER_S = 3600.0


def snapshot() -> tuple[HostSnapshot, ...]:
    return (
        HostSnapshot(host_id=HostId("h1"), endpoint=ENDPOINT, capacity=4, orders=(), statuses=()),
    )


def heartbeat(sequence: int) -> HostHeartbeat:
    return HostHeartbeat(host_id=HostId("h1"), sequence=sequence, jobs=0)


def changed(number: int) -> JobChanged:
    return JobChanged(status=JobStatus(job_id=f"AJ_{number}", generation=1, phase="running"))


class Served:
    """A hub on a port."""

    def __init__(self, hub: ReportHub, server: ControlServer, port: int) -> None:
        self.hub = hub
        self.server = server
        self.address = f"127.0.0.1:{port}"


@contextlib.asynccontextmanager
async def served(
    heartbeat_s: float = NEVER_S, *, token: str | None = None, attach: bool = True
) -> AsyncIterator[Served]:
    hub = ReportHub(heartbeat_s)
    if attach:
        hub.attach(snapshot=snapshot, heartbeat=heartbeat)
    server = ControlServer(hub, token=token)
    try:
        yield Served(hub, server, await server.start("127.0.0.1"))
    finally:
        await server.aclose()


async def test_a_watcher_gets_the_snapshot_then_changes_then_heartbeats() -> None:
    async with served(HEARTBEAT_S) as it, contextlib.aclosing(watch(it.address)) as reports:
        assert await anext(reports) == snapshot()[0]
        it.hub.publish(changed(1))
        seen = [await anext(reports) for _ in range(20)]
        assert [report for report in seen if isinstance(report, JobChanged)] == [changed(1)]
        beats = [report.sequence for report in seen if isinstance(report, HostHeartbeat)]
        assert beats == list(range(beats[0], beats[0] + len(beats)))


async def test_several_watchers_see_the_same() -> None:
    async with (
        served() as it,
        contextlib.aclosing(watch(it.address)) as one,
        contextlib.aclosing(watch(it.address)) as two,
    ):
        await anext(one), await anext(two)
        it.hub.publish(changed(1))
        assert await anext(one) == await anext(two) == changed(1)


async def test_changes_come_in_order_and_from_any_thread() -> None:
    async with served() as it, contextlib.aclosing(watch(it.address)) as reports:
        await anext(reports)

        def publish() -> None:
            for number in range(200):
                it.hub.publish(changed(number))

        await asyncio.to_thread(publish)
        assert [await anext(reports) for _ in range(200)] == [changed(n) for n in range(200)]


async def test_the_end_of_the_process_breaks_the_stream() -> None:
    async with served() as it, contextlib.aclosing(watch(it.address)) as reports:
        await anext(reports)
        await it.server.aclose()
        with pytest.raises(ConnectionFailedError, match=r"control stream of 127\.0\.0\.1"):
            await anext(reports)


async def test_nobody_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # Bound, not listening: a connection is refused.
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConnectionFailedError, match="UNAVAILABLE"):
            await anext(watch(address))


@pytest.mark.parametrize("token", [None, "", "wrong", "secre", "secret-and-more"])
async def test_a_wrong_token_is_refused(token: str | None) -> None:
    async with served(token="secret") as it:
        with pytest.raises(ConnectionFailedError, match="UNAUTHENTICATED"):
            await anext(watch(it.address, token))


async def test_the_right_token_is_taken() -> None:
    async with (
        served(token="secret") as it,
        contextlib.aclosing(watch(it.address, "secret")) as reports,
    ):
        assert await anext(reports) == snapshot()[0]


async def test_a_process_that_is_starting_has_no_watchers() -> None:
    async with served(attach=False) as it:
        with pytest.raises(ConnectionFailedError, match="the process is starting"):
            await anext(watch(it.address))


async def test_a_watcher_that_lags_is_cut_off_and_may_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(control, "_QUEUE_LIMIT", 10)
    async with served() as it, contextlib.aclosing(watch(it.address)) as slow:
        await anext(slow)
        for number in range(11):  # In one turn of the loop: nothing is sent meanwhile.
            it.hub.publish(changed(number))
        with pytest.raises(ConnectionFailedError, match="reads too slowly"):
            await anext(slow)
        async with contextlib.aclosing(watch(it.address)) as again:
            assert await anext(again) == snapshot()[0]


async def test_watchers_are_counted_and_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_MAX_WATCHERS", 1)
    async with served(HEARTBEAT_S) as it:
        async with contextlib.aclosing(watch(it.address)) as reports:
            await anext(reports)
            with pytest.raises(ConnectionFailedError, match="1 watchers are connected"):
                await anext(watch(it.address))
        # It takes the server a moment to see the first one go.
        while True:
            with contextlib.suppress(ConnectionFailedError):
                async with contextlib.aclosing(watch(it.address)) as reports:
                    assert await anext(reports) == snapshot()[0]
                    break


async def test_garbage_on_the_port_hurts_nobody() -> None:
    async with served() as it, contextlib.aclosing(watch(it.address)) as reports:
        await anext(reports)
        host, port = it.address.split(":")
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", bytes(range(256)) * 40, b"\x00"):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(garbage)
            with contextlib.suppress(ConnectionError):
                await writer.drain()
            writer.close()
        it.hub.publish(changed(1))
        assert await anext(reports) == changed(1)
        async with contextlib.aclosing(watch(it.address)) as another:
            assert await anext(another) == snapshot()[0]


async def test_a_taken_port_is_told() -> None:
    async with served() as it:
        port = int(it.address.split(":")[1])
        server = ControlServer(ReportHub(NEVER_S))
        with pytest.raises(PortTakenError):
            await server.start("127.0.0.1", port)
        await server.aclose()


def test_a_report_of_another_version_is_passed_over() -> None:
    assert control._parse(b'{"type": "news_of_tomorrow"}') is None
    known = heartbeat(7).model_dump_json()[:-1] + ', "more": 1}'
    assert control._parse(known.encode()) == heartbeat(7)


async def test_flush_waits_until_the_watchers_have_everything() -> None:
    async with served() as one:
        stream = watch(one.address)
        assert isinstance(await anext(stream), HostSnapshot)
        for number in range(50):
            one.hub.publish(changed(number))
        assert await asyncio.to_thread(one.hub.flush, 10.0)
        got = [await anext(stream) for _ in range(50)]
        assert got == [changed(number) for number in range(50)]
        await stream.aclose()
    assert await asyncio.to_thread(one.hub.flush, 0.0)
