"""Makes a simulated job: its room at LiveKit, its id, and a token that we sign ourselves.

What the job and the token hold is what `AgentServer.simulate_job` of livekit-agents gives them.
"""

import asyncio

import aiohttp
from livekit import api
from livekit.agents.utils import shortuuid
from livekit.protocol import agent, models

from voxray.actors.contracts import ProgramInfo
from voxray.base.errors import ConfigError, ConnectionFailedError
from voxray.base.ids import JobId
from voxray.base.settings import LiveKitSettings
from voxray.dispatcher.inputs import Simulated
from voxray.dispatcher.tokens import simulated_token

_DEADLINE_S = 10.0


def check_asked_only(settings: LiveKitSettings, program: ProgramInfo, room: str) -> None:
    """Check that no second agent would come into a room where a job of our own is begun.

    Raises:
        ConfigError: LiveKit sends this app's agent to every room by itself.
    """
    if settings.registered and not program.agent_name:
        raise ConfigError(
            f"no job was begun in room {room}: livekit sends this app's agent to every room by "
            "itself, and a second one would come; give the program an agent_name, or use "
            "`voxray connect`"
        )


async def simulated_job(
    settings: LiveKitSettings, room: str, identity: str, *, proxy: str | None
) -> Simulated:
    """Create the room if it does not exist, and return the job for it.

    Args:
        settings: address and keys of the server.
        room: the room's name.
        identity: the agent's; empty for one of its own.
        proxy: address of an HTTP proxy, or None.

    Raises:
        ConnectionFailedError: LiveKit can't be asked, or refuses.
    """
    identity = identity or shortuuid("agent-")
    info = await _room(settings, room, proxy)
    job = agent.Job(id=shortuuid("job-"), room=info, type=agent.JobType.JT_ROOM)
    return Simulated(
        job_id=JobId(job.id),
        room=room,
        job=job.SerializeToString(),
        url=settings.url,
        token=simulated_token(settings, room, identity),
        identity=identity,
    )


async def _room(settings: LiveKitSettings, room: str, proxy: str | None) -> models.Room:
    timeout = aiohttp.ClientTimeout(total=_DEADLINE_S)
    try:
        async with (
            asyncio.timeout(_DEADLINE_S),
            aiohttp.ClientSession(proxy=proxy, timeout=timeout) as session,
            api.LiveKitAPI(
                settings.url,
                settings.api_key,
                settings.api_secret.get_secret_value(),
                session=session,
            ) as livekit,
        ):
            found = await livekit.room.list_rooms(api.ListRoomsRequest(names=[room]))
            if found.rooms:
                return found.rooms[0]
            return await livekit.room.create_room(api.CreateRoomRequest(name=room))
    except TimeoutError as error:
        raise ConnectionFailedError(
            f"livekit at {settings.url} did not answer within {_DEADLINE_S:g} s; try again"
        ) from error
    except api.ServerError as error:
        raise ConnectionFailedError(
            f"livekit at {settings.url} refuses to open the room: {error.code} (http "
            f"{error.status}); check the keys"
        ) from error
    except (aiohttp.ClientError, OSError) as error:
        raise ConnectionFailedError(
            f"livekit at {settings.url} can't be reached: {type(error).__name__}; is it running?"
        ) from error
