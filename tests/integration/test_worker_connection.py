"""The worker connection, tokens and room looks against the real livekit-server."""

import asyncio
import os
from contextlib import asynccontextmanager

import pytest
from livekit import api, rtc
from livekit.protocol import agent

from voxray.actors.contracts import ProgramInfo
from voxray.base.errors import CredentialsError
from voxray.base.settings import LiveKitSettings
from voxray.cli.home import build_home
from voxray.dispatcher.connection import (
    ConnectionEnded,
    Disconnected,
    WorkerConnection,
)
from voxray.dispatcher.inputs import RoomAnswer
from voxray.dispatcher.messages import (
    AvailabilityRequest,
    AvailabilityResponse,
    JobAssignment,
    JobTermination,
    UpdateJobStatus,
    UpdateWorkerStatus,
)
from voxray.dispatcher.protocol import Registered
from voxray.dispatcher.rooms import RoomDirectory
from voxray.dispatcher.tokens import resign
from voxray.loadtest.livekit_server import LiveKitServer, find_or_install

_PATIENCE_S = 30.0


def settings_of(server, **changes):
    return LiveKitSettings(
        **{
            "url": server.url,
            "api_key": server.api_key,
            "api_secret": server.api_secret,
            **changes,
        }
    )


def program(agent_name):
    return ProgramInfo(
        path="/agent.py",
        agent_name=agent_name,
        worker_type=agent.JobType.JT_ROOM,
        permissions=agent_permissions(),
        has_request_fnc=False,
        drain_timeout_s=1,
        initialize_timeout_s=1,
        shutdown_timeout_s=1,
        session_end_timeout_s=1,
        sdk_version="1.8.9",
    )


def agent_permissions():
    permission = api.ParticipantPermission(
        can_publish=True, can_subscribe=True, can_publish_data=True, can_update_metadata=True
    )
    return permission.SerializeToString()


class Worker:
    """A connection; its offers are kept apart from its other events."""

    def __init__(self, settings, agent_name):
        self._events = asyncio.Queue()
        self._offers = asyncio.Queue()
        self.connection = WorkerConnection(settings, program(agent_name), self._take)

    def _take(self, event):
        queue = self._offers if isinstance(event, AvailabilityRequest) else self._events
        queue.put_nowait(event)

    async def next(self, kind):
        async with asyncio.timeout(_PATIENCE_S):
            event = await self._events.get()
        assert isinstance(event, kind), event
        return event

    async def offer(self, room):
        """Return the offer of a room; older ones of other rooms are skipped."""
        while (offer := await self._offers.get()).room != room:
            pass
        return offer

    async def take(self, offer, identity="agent-1"):
        """Say yes; return the assignment."""
        self.connection.send(
            AvailabilityResponse(
                job_id=offer.job_id, available=True, identity=identity, attributes={"k": "v"}
            )
        )
        assignment = await self.next(JobAssignment)
        assert assignment.job_id == offer.job_id
        return assignment


async def first_offer(ask, room, *workers):
    """Ask LiveKit for an agent until a worker is offered the job; return its worker and the offer.

    For a moment after a registration the server may still believe that there is no such worker,
    and it never tries again: each attempt takes a room of its own.
    """
    for attempt in range(10):
        name = f"{room}-{attempt}"
        await ask(name)
        asked = {asyncio.create_task(worker.offer(name)): worker for worker in workers}
        done, others = await asyncio.wait(
            asked, timeout=_PATIENCE_S / 10, return_when=asyncio.FIRST_COMPLETED
        )
        for task in others:
            task.cancel()
        if done:
            task = done.pop()
            return asked[task], task.result()
    pytest.fail("no worker was offered the job")


@asynccontextmanager
async def working(settings, agent_name):
    worker = Worker(settings, agent_name)
    await worker.connection.start()
    try:
        yield worker
    finally:
        await worker.connection.aclose()


@asynccontextmanager
async def livekit_api(server):
    async with api.LiveKitAPI(server.url, server.api_key, server.api_secret) as client:
        yield client


@asynccontextmanager
async def joined(url, token):
    room = rtc.Room()
    await room.connect(url, token)
    try:
        yield room
    finally:
        await room.disconnect()


def room_maker(client):
    async def make(room):
        await client.room.create_room(api.CreateRoomRequest(name=room))

    return make


def dispatcher_of(client, agent_name, made=None):
    async def dispatch(room):
        request = api.CreateAgentDispatchRequest(room=room, agent_name=agent_name)
        created = await client.agent_dispatch.create_dispatch(request)
        if made is not None:
            made.append(created)

    return dispatch


async def dispatched(client, worker, room, agent_name):
    """Dispatch our agent to a room and take the job; return the dispatch and the assignment."""
    made = []
    _, offer = await first_offer(dispatcher_of(client, agent_name, made), room, worker)
    return made[-1], await worker.take(offer)


async def test_a_created_room_yields_an_offer_and_its_token_joins(livekit_server, room_name):
    settings = settings_of(livekit_server)
    rooms = RoomDirectory(settings)
    # Automatic dispatch: the worker has no name.
    async with working(settings, "") as worker, livekit_api(livekit_server) as client:
        registered = await worker.next(Registered)
        assert registered.worker_id
        assert registered.server_version
        assert await rooms.look(room_name, "agent-1") is RoomAnswer.GONE
        _, offer = await first_offer(room_maker(client), room_name, worker)
        name = offer.room
        assert agent.Job.FromString(offer.job).room.name == name
        assignment = await worker.take(offer)
        assert await rooms.look(name, "agent-1") is RoomAnswer.ABSENT
        async with joined(assignment.url or livekit_server.url, assignment.token) as room:
            assert (room.name, room.local_participant.identity) == (name, "agent-1")
            assert room.local_participant.kind == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT
            assert room.local_participant.attributes["k"] == "v"
            presence = await rooms.presence(name, "agent-1")
            assert presence.answer is RoomAnswer.PRESENT
            assert presence.joined_at > 0
            # The server counts a participant as active a moment after our side does.
            async with asyncio.timeout(_PATIENCE_S):
                while not (await rooms.presence(name, "agent-1")).active:
                    pass
        health = worker.connection.health
        # Our first ping went out before the answer that the assignment came for.
        assert health.round_trip_s > 0
        assert (health.counters.malformed, health.counters.unknown) == (0, 0)
    await rooms.aclose()


async def test_a_deleted_dispatch_ends_a_running_job_but_not_one_that_we_reported_ended(
    livekit_server, room_name
):
    name = f"desk-{room_name}"
    async with (
        working(settings_of(livekit_server), name) as worker,
        livekit_api(livekit_server) as client,
    ):
        await worker.next(Registered)
        over, ended = await dispatched(client, worker, f"{room_name}-over", name)
        running, job = await dispatched(client, worker, f"{room_name}-running", name)
        worker.connection.send(UpdateJobStatus(job_id=ended.job_id, status="success"))
        worker.connection.send(UpdateJobStatus(job_id=job.job_id, status="running"))
        # Once this is answered and assigned, LiveKit has read the updates before it.
        await dispatched(client, worker, room_name, name)
        for dispatch in (over, running):
            await client.agent_dispatch.delete_dispatch(dispatch.id, dispatch.room)
        assert (await worker.next(JobTermination)).job_id == job.job_id


async def test_a_refused_offer_goes_to_another_worker(livekit_server, room_name):
    name, settings = f"desk-{room_name}", settings_of(livekit_server)
    async with (
        livekit_api(livekit_server) as client,
        working(settings, name) as one,
        working(settings, name) as two,
    ):
        await one.next(Registered)
        await two.next(Registered)
        two.connection.send(UpdateWorkerStatus(full=False, load=0.6, job_count=1))
        first, offer = await first_offer(dispatcher_of(client, name), room_name, one, two)
        refusal = AvailabilityResponse(job_id=offer.job_id, available=False)
        first.connection.send(refusal)
        second = two if first is one else one
        async with asyncio.timeout(_PATIENCE_S):
            await second.take(await second.offer(offer.room))


async def test_a_renewed_token_joins_in_place_of_the_old_one(livekit_server, room_name):
    name = f"desk-{room_name}"
    async with (
        working(settings_of(livekit_server), name) as worker,
        livekit_api(livekit_server) as client,
    ):
        await worker.next(Registered)
        _, assignment = await dispatched(client, worker, room_name, name)
        renewed = resign(assignment.token, livekit_server.api_secret, 60)
        async with joined(livekit_server.url, renewed) as room:
            assert room.local_participant.identity == "agent-1"
            assert room.local_participant.attributes["k"] == "v"


async def test_a_restarted_server_gets_the_registration_again(room_name):
    async with (
        LiveKitServer(find_or_install(build_home(os.environ))) as server,
        working(settings_of(server), "") as worker,
    ):
        first = await worker.next(Registered)
        await server.restart()
        await worker.next(Disconnected)
        again = await worker.next(Registered)
        assert again.reconnect
        assert again.worker_id != first.worker_id
        async with livekit_api(server) as client:
            _, offer = await first_offer(room_maker(client), room_name, worker)
            await worker.take(offer)


@pytest.mark.parametrize("wrong", [{"api_secret": "w" * 48}, {"api_key": "APIunknown"}])
async def test_wrong_keys_end_the_connection_at_once(livekit_server, wrong):
    settings = settings_of(livekit_server, **wrong)
    async with working(settings, "") as worker:
        error = (await worker.next(ConnectionEnded)).error
        assert isinstance(error, CredentialsError)
        assert "check LIVEKIT_API_KEY and LIVEKIT_API_SECRET" in str(error)
    rooms = RoomDirectory(settings)
    assert await rooms.look("any", "agent-1") is RoomAnswer.UNKNOWN
    await rooms.aclose()
