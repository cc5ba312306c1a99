"""The registration that outlives its connections: another program, another proxy, one at a time."""

import asyncio

from tests.fakes.dispatch_world import program
from tests.fakes.livekit_server import FakeLiveKit
from voxray.base.settings import LiveKitSettings
from voxray.dispatcher.connection import ConnectionEnded, Disconnected
from voxray.dispatcher.dialing import DialOptions
from voxray.dispatcher.protocol import Registered
from voxray.dispatcher.registration import CHANGED, Registration

DIAL = DialOptions(close_s=0.1)


class Worker:
    def __init__(self, url, **options):
        self._events = asyncio.Queue()
        settings = LiveKitSettings(url=url, api_key="key", api_secret="s" * 32, max_retry=0)
        self.registration = Registration(
            settings, program(agent_name="old"), DIAL, self._events.put_nowait, **options
        )

    async def __aenter__(self):
        await self.registration.start()
        return self

    async def __aexit__(self, *_):
        await self.registration.aclose()

    async def next(self, kind):
        async with asyncio.timeout(20):
            event = await self._events.get()
        assert isinstance(event, kind), event
        return event

    def follow(self, dial=DIAL, **changes):
        return self.registration.follow(program(**({"agent_name": "old"} | changes)), dial)


async def registers_as(worker, server, name):
    link = await server.accept()
    assert (await link.register()).agent_name == name
    await worker.next(Registered)
    return link


async def test_livekit_hears_only_of_what_it_is_told():
    async with FakeLiveKit() as server, Worker(server.url) as worker:
        assert not worker.follow(version="v2", drain_timeout_s=7.0)
        assert worker.follow(agent_name="new")
        assert worker.follow(agent_name="new", dial=DialOptions(proxy="http://there"))
        assert not worker.follow(agent_name="new", dial=DialOptions(proxy="http://there"))


async def test_a_program_of_another_name_closes_the_old_connection_first():
    async with FakeLiveKit() as server, Worker(server.url) as worker:
        first = await registers_as(worker, server, "old")
        reader = asyncio.create_task(first.receive_all())
        assert worker.follow(agent_name="new")
        await worker.registration.begin_anew()
        await reader
        assert (await worker.next(Disconnected)).reason == CHANGED
        await registers_as(worker, server, "new")


async def test_two_changes_at_once_leave_one_connection():
    async with FakeLiveKit() as server, Worker(server.url) as worker:
        first = await registers_as(worker, server, "old")
        reader = asyncio.create_task(first.receive_all())
        changes = []
        for name in ("new", "newer"):
            worker.follow(agent_name=name)
            changes.append(asyncio.create_task(worker.registration.begin_anew()))
        await asyncio.gather(reader, *changes)
        # Whatever the first change opened is closed again before the second one's is opened.
        await worker.next(Disconnected)
        await worker.next(Disconnected)
        await registers_as(worker, server, "newer")
        assert worker._events.empty()


async def test_another_proxy_is_used_at_once():
    async with FakeLiveKit() as server, FakeLiveKit() as proxy, Worker(server.url) as worker:
        await registers_as(worker, server, "old")
        address = proxy.url.replace("ws", "http")
        proxy.refuse(502)
        assert worker.follow(dial=DialOptions(proxy=address, close_s=0.1))
        await worker.registration.begin_anew()
        await worker.next(Disconnected)
        assert "502" in str((await worker.next(ConnectionEnded)).error)


async def test_livekit_is_dialled_again_after_it_was_given_up():
    async with FakeLiveKit() as server, Worker(server.url, pause_s=0.0) as worker:
        link = await registers_as(worker, server, "old")
        link.drop()
        await worker.next(Disconnected)
        await worker.next(ConnectionEnded)
        await worker.registration.try_again()
        await registers_as(worker, server, "old")
