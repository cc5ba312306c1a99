"""The reconciler's questions and orders to LiveKit's API, and what becomes of them."""

import socket

import pytest
from aiohttp import web
from livekit.protocol import agent, agent_dispatch, models, room

from tests.fakes.dispatch_world import program
from voxray.actors.contracts import STANDS_IN
from voxray.base.settings import LiveKitSettings
from voxray.dispatcher.commands import CreateDispatch, DeleteDispatch, ListRooms, ViewRoom
from voxray.dispatcher.inputs import DispatchCreated, RoomsListed, RoomViewed
from voxray.dispatcher.origins import CallKey, StandIn
from voxray.dispatcher.room_survey import RoomSurveyor
from voxray.dispatcher.room_views import (
    CallerView,
    DispatchRecord,
    JobRecord,
    RoomListing,
    RoomView,
)

VIEW = ViewRoom(room="r", sid="RM_1")
CREATE = CreateDispatch(
    key=CallKey("AD_1", "PA_1"),
    room="r",
    room_sid="RM_1",
    like=DispatchRecord(
        dispatch_id="AD_1",
        created_at=5.0,
        metadata="m",
        attributes={"mine": "yes"},
        restart_policy=1,
    ),
)
DELETE = DeleteDispatch(room="r", dispatch_id="AD_2")
SECOND = 1_000_000_000
PEOPLE = room.ListParticipantsResponse()


def surveyor(port, **options):
    settings = LiveKitSettings(url=f"ws://127.0.0.1:{port}", api_key="key", api_secret="s" * 32)
    return RoomSurveyor(settings, program(agent_name="bot", deployment="blue"), **options)


class Api:
    """LiveKit's API with fixed answers: a message, or a status with a Twirp code."""

    def __init__(self, **answers):
        self._answers = answers
        self.asked = {}

    async def __aenter__(self):
        app = web.Application()
        app.router.add_post("/twirp/livekit.{service}/{method}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.surveyor = surveyor(self._runner.addresses[0][1])
        return self

    async def __aexit__(self, *_):
        await self.surveyor.aclose()
        await self._runner.cleanup()

    async def _answer(self, request):
        method = request.match_info["method"]
        self.asked.setdefault(method, []).append(await request.read())
        answer = self._answers[method]
        if isinstance(answer, web.Response):
            return answer
        if isinstance(answer, tuple):
            status, code = answer
            return web.json_response({"code": code, "msg": "said so"}, status=status)
        return web.Response(body=answer.SerializeToString())


def dispatches(*each):
    return agent_dispatch.ListAgentDispatchResponse(agent_dispatches=each)


def dispatch(dispatch_id, *, created_at=5, jobs=(), **fields):
    named = {"agent_name": "bot", "deployment": "blue"} | fields
    state = {"created_at": created_at * SECOND, "jobs": jobs}
    return agent_dispatch.AgentDispatch(id=dispatch_id, room="r", state=state, **named)


async def test_all_rooms():
    rooms = room.ListRoomsResponse(
        rooms=[models.Room(name="a", sid="RM_1", num_participants=2), models.Room(name="b")]
    )
    async with Api(ListRooms=rooms) as api:
        assert await api.surveyor.run(ListRooms()) == RoomsListed(
            rooms=(
                RoomListing(name="a", sid="RM_1", participants=2),
                RoomListing(name="b", sid="", participants=0),
            )
        )


async def test_a_room_in_detail():
    job = agent.Job(
        id="AJ_1",
        participant={"sid": "PA_1"},
        state={"participant_identity": "agent", "started_at": 7 * SECOND},
    )
    dropped = agent.Job(id="AJ_2", state={"status": agent.JobStatus.JS_SUCCESS})
    mark = {STANDS_IN: "AD_1 RM_1", "mine": "yes"}
    listed = dispatches(
        dispatch("AD_2", created_at=6, attributes=mark, metadata="m"),
        dispatch("AD_1", jobs=[job, dropped]),
        dispatch("AD_3", agent_name="other"),
        dispatch("AD_4", deployment=""),
    )
    kind = models.ParticipantInfo.Kind
    people = room.ListParticipantsResponse(
        participants=[
            models.ParticipantInfo(sid="PA_1", joined_at=9, joined_at_ms=9250, is_publisher=True),
            models.ParticipantInfo(sid="PA_2", kind=kind.SIP, joined_at=8),
            models.ParticipantInfo(sid="PA_3", kind=kind.AGENT, identity="agent"),
            models.ParticipantInfo(sid="PA_4", kind=kind.EGRESS),
            models.ParticipantInfo(sid="PA_5", permission={"hidden": True}),
            models.ParticipantInfo(sid="PA_6", permission={"agent": True}),
            models.ParticipantInfo(sid="PA_7", state=models.ParticipantInfo.State.DISCONNECTED),
        ]
    )
    async with Api(ListDispatch=listed, ListParticipants=people) as api:
        assert await api.surveyor.run(VIEW) == RoomViewed(
            room="r",
            view=RoomView(
                room="r",
                sid="RM_1",
                dispatches=(
                    DispatchRecord(
                        dispatch_id="AD_1",
                        created_at=5.0,
                        jobs=(
                            JobRecord(
                                job_id="AJ_1",
                                participant="PA_1",
                                identity="agent",
                                started_at=7.0,
                            ),
                            JobRecord(job_id="AJ_2", ended=True),
                        ),
                    ),
                    DispatchRecord(
                        dispatch_id="AD_2",
                        created_at=6.0,
                        metadata="m",
                        attributes={"mine": "yes"},
                        stand_in=StandIn(key=CallKey("AD_1", ""), room_sid="RM_1"),
                    ),
                ),
                callers=(
                    CallerView(sid="PA_1", joined_at=9.25, publishes=True),
                    CallerView(sid="PA_2", joined_at=8.0, publishes=False),
                ),
                agents=frozenset({"agent"}),
            ),
        )


async def test_who_is_in_a_room_without_a_dispatch_of_ours_is_not_asked():
    async with Api(ListDispatch=dispatches(dispatch("AD_3", agent_name="other"))) as api:
        answer = await api.surveyor.run(VIEW)
        assert answer.view == RoomView(room="r", sid="RM_1")
        assert "ListParticipants" not in api.asked


async def test_a_stand_in_is_like_the_dispatch_it_stands_in_for():
    async with Api(CreateDispatch=dispatch("AD_9")) as api:
        assert await api.surveyor.run(CREATE) == DispatchCreated(
            key=CREATE.key, room="r", dispatch_id="AD_9"
        )
        (sent,) = api.asked["CreateDispatch"]
    request = agent_dispatch.CreateAgentDispatchRequest.FromString(sent)
    assert (request.agent_name, request.deployment, request.room) == ("bot", "blue", "r")
    assert (request.metadata, request.restart_policy) == ("m", 1)
    assert dict(request.attributes) == {"mine": "yes", STANDS_IN: "AD_1 RM_1 PA_1"}


async def test_a_stand_in_is_deleted():
    async with Api(DeleteDispatch=dispatch("AD_2")) as api:
        assert await api.surveyor.run(DELETE) is None
        (sent,) = api.asked["DeleteDispatch"]
    request = agent_dispatch.DeleteAgentDispatchRequest.FromString(sent)
    assert (request.room, request.dispatch_id) == ("r", "AD_2")


async def test_a_room_that_is_gone():
    missing = (404, "not_found")
    async with Api(ListDispatch=missing, CreateDispatch=missing, DeleteDispatch=missing) as api:
        assert await api.surveyor.run(VIEW) == RoomViewed(room="r", view=None, gone=True)
        created = await api.surveyor.run(CREATE)
        assert (created.dispatch_id, created.reason) == ("", "there is no such room")
        assert await api.surveyor.run(DELETE) is None


@pytest.mark.parametrize("status", [(401, "unauthenticated"), (500, "internal")])
async def test_what_livekit_refuses_is_not_known(status, caplog):
    methods = dict.fromkeys(
        ("ListRooms", "ListDispatch", "CreateDispatch", "DeleteDispatch"), status
    )
    async with Api(**methods) as api:
        assert await api.surveyor.run(ListRooms()) == RoomsListed(rooms=None)
        assert await api.surveyor.run(VIEW) == RoomViewed(room="r", view=None)
        created = await api.surveyor.run(CREATE)
        assert created.reason == f"livekit refused: {status[1]} (http {status[0]})"
        assert await api.surveyor.run(DELETE) is None
        # Tried again by itself, an order for a dispatch would make two.
        assert len(api.asked["CreateDispatch"]) == 1
    assert [record.reason for record in caplog.records] == [created.reason] * 4
    assert "said so" not in caplog.text


async def test_a_new_version_of_the_program_may_have_another_name():
    async with Api(ListDispatch=dispatches(dispatch("AD_1")), ListParticipants=PEOPLE) as api:
        api.surveyor.follow(program(agent_name="new", deployment="blue"), None)
        assert not (await api.surveyor.run(VIEW)).view.dispatches
        api.surveyor.follow(program(agent_name="bot", deployment="blue"), None)
        assert len((await api.surveyor.run(VIEW)).view.dispatches) == 1


@pytest.mark.parametrize(
    "answer",
    [{"text": "somewhere else"}, {"status": 404, "text": "[]"}],
    ids=["no message", "no error of theirs"],
)
async def test_what_is_not_livekit_is_not_believed(answer):
    def response():
        return web.Response(content_type="application/json", **answer)

    async with Api(ListRooms=response(), CreateDispatch=response()) as api:
        assert await api.surveyor.run(ListRooms()) == RoomsListed(rooms=None)
        assert (await api.surveyor.run(CREATE)).reason.startswith("livekit can't be reached: ")


async def test_a_server_that_says_nothing_has_a_deadline():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        asked = surveyor(silent.getsockname()[1], deadline_s=0.05)
        created = await asked.run(CREATE)
        assert (created.dispatch_id, created.reason) == ("", "no answer within 0.05 s")
        await asked.aclose()


async def test_close_is_idempotent_and_ends_all_orders():
    asked = surveyor(1)
    assert (await asked.run(CREATE)).reason.startswith("livekit can't be reached: ")
    await asked.aclose()
    await asked.aclose()
    assert (await asked.run(CREATE)).reason == "we are closing"


async def test_a_dispatch_is_made_once_livekit_knows_our_load():
    seen = []

    async def confirm():
        seen.append(dict(api.asked))

    async with Api(CreateDispatch=agent_dispatch.AgentDispatch(id="AD_2")) as api:
        api.surveyor._confirm = confirm
        assert (await api.surveyor.run(CREATE)).dispatch_id == "AD_2"
        assert seen == [{}]
        assert list(api.asked) == ["CreateDispatch"]


async def test_another_proxy_is_used_from_the_next_order_on():
    async with Api(ListRooms=room.ListRoomsResponse()) as api, Api() as proxy:
        assert (await api.surveyor.run(ListRooms())).rooms == ()
        address = proxy.surveyor._settings.url.replace("ws", "http")
        api.surveyor.follow(program(agent_name="bot", deployment="blue"), address)
        # The proxy knows no such address.
        assert (await api.surveyor.run(ListRooms())).rooms is None
        api.surveyor.follow(program(agent_name="bot", deployment="blue"), None)
        assert (await api.surveyor.run(ListRooms())).rooms == ()
        assert len(api.asked["ListRooms"]) == 2
