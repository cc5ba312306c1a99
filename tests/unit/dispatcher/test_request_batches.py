"""Questions to hosts gather while a call is under way, and none is held up or lost."""

import asyncio

import pytest

from voxray.actors.contracts import AcceptArguments, RequestAnswer
from voxray.base.errors import ConnectionFailedError
from voxray.base.ids import HostId
from voxray.dispatcher.request_batches import BATCH_LIMIT, RequestBatches

HOST, OTHER = HostId("aa"), HostId("bb")


def yes(job: bytes) -> RequestAnswer:
    return RequestAnswer(accept=AcceptArguments(identity=job.decode()))


class Hosts:
    def __init__(self) -> None:
        self.calls: list[list[bytes]] = []
        self.gate = asyncio.Event()
        self.slow: set[bytes] = set()
        self.late: dict[str, bytes] = {}
        self.error: ConnectionFailedError | None = None

    async def ask(self, host_id, asked):
        self.calls.append([job for _, job in asked])
        await self.gate.wait()
        if self.error:
            raise self.error
        self.late |= {ticket: job for ticket, job in asked if job in self.slow}
        return [None if job in self.slow else yes(job) for _, job in asked]

    async def ask_late(self, host_id, ticket):
        return yes(self.late.pop(ticket))


@pytest.fixture
async def hosts():
    return Hosts()


@pytest.fixture
async def batches(hosts):
    batches = RequestBatches(hosts.ask, hosts.ask_late)
    yield batches
    await batches.aclose()


def jobs(count):
    return [str(number).encode() for number in range(count)]


async def ask_all(batches, asked, host_id=HOST):
    return [asyncio.create_task(batches.request(host_id, job)) for job in asked]


async def test_what_comes_during_a_call_goes_with_the_next(batches, hosts):
    first = await ask_all(batches, [b"first"])
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert hosts.calls == [[b"first"]]
    others = await ask_all(batches, jobs(BATCH_LIMIT + 3))
    await asyncio.sleep(0)
    assert len(hosts.calls) == 1
    hosts.gate.set()
    answers = await asyncio.wait_for(asyncio.gather(*first, *others), 5)
    assert [answer.accept.identity for answer in answers] == [
        "first",
        *(job.decode() for job in jobs(BATCH_LIMIT + 3)),
    ]
    assert [len(call) for call in hosts.calls] == [1, BATCH_LIMIT, 3]
    assert (await batches.request(HOST, b"again")).accept.identity == "again"


async def test_a_slow_program_holds_up_only_its_own_job(batches, hosts):
    hosts.slow = {b"1"}
    hosts.gate.set()
    answers = await asyncio.wait_for(asyncio.gather(*await ask_all(batches, jobs(3))), 5)
    assert [answer.accept.identity for answer in answers] == ["0", "1", "2"]
    assert not hosts.late


async def test_a_host_that_can_not_be_asked_fails_its_own_questions_only(batches, hosts):
    hosts.error = ConnectionFailedError("gone")
    hosts.gate.set()
    failed = await asyncio.gather(*await ask_all(batches, jobs(3)), return_exceptions=True)
    assert [str(error) for error in failed] == ["gone"] * 3
    hosts.error = None
    assert (await batches.request(OTHER, b"x")).accept.identity == "x"


async def test_nobody_is_asked_for_one_who_gave_up(batches, hosts):
    (first,) = await ask_all(batches, [b"first"])
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    (second,) = await ask_all(batches, [b"second"])
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.sleep(0)
    hosts.gate.set()
    await asyncio.wait_for(first, 5)
    await batches.aclose()
    assert hosts.calls == [[b"first"]]
