"""The reconciler's questions and orders to LiveKit: rooms, dispatches, participants."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeAlias, assert_never

import aiohttp
from livekit import api
from livekit.protocol.agent import Job, JobStatus
from livekit.protocol.agent_dispatch import (
    AgentDispatch,
    CreateAgentDispatchRequest,
)
from livekit.protocol.models import ParticipantInfo
from livekit.protocol.room import ListParticipantsRequest, ListRoomsRequest

from voxray.actors.contracts import STANDS_IN, ProgramInfo
from voxray.base.ids import JobId
from voxray.base.settings import LiveKitSettings
from voxray.dispatcher.commands import CreateDispatch, DeleteDispatch, ListRooms, ViewRoom
from voxray.dispatcher.inputs import DispatchCreated, RoomsListed, RoomViewed, SurveyInput
from voxray.dispatcher.origins import read_stand_in, write_stand_in
from voxray.dispatcher.room_views import (
    CallerView,
    DispatchRecord,
    JobRecord,
    RoomListing,
    RoomView,
)
from voxray.dispatcher.rooms import NO_ANSWER

logger = logging.getLogger(__name__)

DEADLINE_S = 4.0
"""How long one order may take; less than the reconciler waits for it."""
_NO_CALLERS = frozenset({ParticipantInfo.Kind.AGENT, ParticipantInfo.Kind.EGRESS})
_ENDED = frozenset({JobStatus.JS_SUCCESS, JobStatus.JS_FAILED})
_NANOSECONDS = 1e9

SurveyOrder: TypeAlias = ListRooms | ViewRoom | CreateDispatch | DeleteDispatch


class RoomSurveyor:
    """Carries the reconciler's orders out. Never raises: what could not be done is said so."""

    def __init__(
        self,
        settings: LiveKitSettings,
        program: ProgramInfo,
        *,
        proxy: str | None = None,
        confirm: Callable[[], Awaitable[None]] | None = None,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        """Prepare; connections are made when they are needed.

        Args:
            settings: address and keys of the server.
            program: whose dispatches are looked for.
            proxy: address of an HTTP proxy, or None.
            confirm: waits until LiveKit knows our load. It asks nobody about a dispatch that comes
                before the word that we have a free slot.
            deadline_s: after it an order has failed.
        """
        self._settings = settings
        self._program = program
        self._proxy = proxy
        self._confirm = confirm
        self._deadline_s = deadline_s
        self._session: aiohttp.ClientSession | None = None
        self._livekit: api.LiveKitAPI | None = None
        self._old: list[aiohttp.ClientSession] = []
        self._closed = False

    async def run(self, order: SurveyOrder) -> SurveyInput | None:
        """Carry one order out and return its answer, if it has one."""
        try:
            if self._closed:
                return _failed(order, "we are closing")
            async with asyncio.timeout(self._deadline_s):
                return await self._run(order)
        except TimeoutError:
            reason = f"no answer within {self._deadline_s:g} s"
        except api.ServerError as error:
            if error.code == api.ServerErrorCode.NOT_FOUND:
                return _not_found(order)
            # Its message may name the room; the code says enough.
            reason = f"livekit refused: {error.code} (http {error.status})"
        except NO_ANSWER as error:
            reason = f"livekit can't be reached: {type(error).__name__}"
        what = type(order).__name__
        logger.warning("could not survey rooms", extra={"order": what, "reason": reason})
        return _failed(order, reason)

    def follow(self, program: ProgramInfo, proxy: str | None) -> None:
        """Look for the dispatches of a new version of the program from now on, by its proxy."""
        self._program = program
        if proxy != self._proxy:
            self._proxy = proxy
            self._let_go()

    async def aclose(self) -> None:
        """Close the connections. Idempotent."""
        self._closed = True
        self._let_go()
        while self._old:
            await self._old.pop().close()

    def _let_go(self) -> None:
        """Use the present connections no more; orders that are under way still need them."""
        session, self._session, self._livekit = self._session, None, None
        if session is not None:
            self._old.append(session)

    async def _run(self, order: SurveyOrder) -> SurveyInput | None:
        match order:
            case ListRooms():
                listed = await self._client().room.list_rooms(ListRoomsRequest())
                return RoomsListed(
                    rooms=tuple(
                        RoomListing(
                            name=room.name, sid=room.sid, participants=room.num_participants
                        )
                        for room in listed.rooms
                    )
                )
            case ViewRoom():
                return RoomViewed(room=order.room, view=await self._view(order))
            case CreateDispatch():
                return await self._create(order)
            case DeleteDispatch(room=room, dispatch_id=dispatch_id):
                await self._client().agent_dispatch.delete_dispatch(dispatch_id, room)
                return None
            case _ as never:
                assert_never(never)

    async def _view(self, order: ViewRoom) -> RoomView:
        livekit = self._client()
        listed = await livekit.agent_dispatch.list_dispatch(order.room)
        ours = [each for each in listed if self._is_ours(each)]
        if not ours:
            return RoomView(room=order.room, sid=order.sid)
        people = await livekit.room.list_participants(ListParticipantsRequest(room=order.room))
        present = [
            each for each in people.participants if each.state != ParticipantInfo.State.DISCONNECTED
        ]
        return RoomView(
            room=order.room,
            sid=order.sid,
            dispatches=tuple(sorted(map(_record, ours), key=lambda each: each.created_at)),
            callers=tuple(_caller(each) for each in present if _may_wait(each)),
            agents=frozenset(
                each.identity for each in present if each.kind == ParticipantInfo.Kind.AGENT
            ),
        )

    def _is_ours(self, dispatch: AgentDispatch) -> bool:
        program = self._program
        named = dispatch.agent_name == program.agent_name
        return named and dispatch.deployment == program.deployment

    async def _create(self, order: CreateDispatch) -> DispatchCreated:
        like = order.like
        request = CreateAgentDispatchRequest(
            agent_name=self._program.agent_name,
            deployment=self._program.deployment,
            room=order.room,
            metadata=like.metadata,
            attributes={**like.attributes, STANDS_IN: write_stand_in(order.stand_in)},
        )
        # By number: the policy of a newer server has no name here.
        request.restart_policy = like.restart_policy  # type: ignore[assignment]
        if self._confirm is not None:
            await self._confirm()
        created = await self._client().agent_dispatch.create_dispatch(request)
        return DispatchCreated(key=order.key, room=order.room, dispatch_id=created.id)

    def _client(self) -> api.LiveKitAPI:
        if self._livekit is None:
            self._session = aiohttp.ClientSession(
                proxy=self._proxy, timeout=aiohttp.ClientTimeout(total=self._deadline_s)
            )
            # A request that is tried again by itself could create two dispatches.
            self._livekit = api.LiveKitAPI(
                self._settings.url,
                self._settings.api_key,
                self._settings.api_secret.get_secret_value(),
                session=self._session,
                failover=False,
            )
        return self._livekit


def _record(dispatch: AgentDispatch) -> DispatchRecord:
    attributes = dict(dispatch.attributes)
    stand_in = read_stand_in(attributes.pop(STANDS_IN, ""))
    return DispatchRecord(
        dispatch_id=dispatch.id,
        created_at=dispatch.state.created_at / _NANOSECONDS,
        metadata=dispatch.metadata,
        attributes=attributes,
        restart_policy=int(dispatch.restart_policy),
        stand_in=stand_in,
        jobs=tuple(_job(each) for each in dispatch.state.jobs),
    )


def _job(job: Job) -> JobRecord:
    return JobRecord(
        job_id=JobId(job.id),
        participant=job.participant.sid,
        identity=job.state.participant_identity,
        started_at=job.state.started_at / _NANOSECONDS,
        ended=job.state.status in _ENDED,
    )


def _may_wait(participant: ParticipantInfo) -> bool:
    permission = participant.permission
    is_caller = participant.kind not in _NO_CALLERS
    return is_caller and not (permission.agent or permission.recorder or permission.hidden)


def _caller(participant: ParticipantInfo) -> CallerView:
    return CallerView(
        sid=participant.sid,
        joined_at=participant.joined_at_ms / 1000 or float(participant.joined_at),
        publishes=participant.is_publisher,
    )


def _not_found(order: SurveyOrder) -> SurveyInput | None:
    """Return what it means that LiveKit knows no such room, or no such dispatch."""
    if isinstance(order, ViewRoom):
        return RoomViewed(room=order.room, view=None, gone=True)
    return _failed(order, "there is no such room")


def _failed(order: SurveyOrder, reason: str) -> SurveyInput | None:
    match order:
        case ListRooms():
            return RoomsListed(rooms=None)
        case ViewRoom(room=room):
            return RoomViewed(room=room, view=None)
        case CreateDispatch(key=key, room=room):
            return DispatchCreated(key=key, room=room, dispatch_id="", reason=reason)
        case DeleteDispatch():
            # Still there, it is found again by the next look at its room.
            return None
        case _ as never:
            assert_never(never)
