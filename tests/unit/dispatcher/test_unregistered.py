"""An app that is not registered at LiveKit, as `connect` runs it, looks for no rooms."""

import pytest

from tests.fakes.dispatch_world import program
from tests.fakes.fleet import FakeFleet
from voxray.base.errors import ConfigError, ConnectionFailedError
from voxray.base.settings import LiveKitSettings, Settings
from voxray.base.timing import SystemClock
from voxray.dispatcher import commands as cmd
from voxray.dispatcher import inputs as inp
from voxray.dispatcher.access import Access
from voxray.dispatcher.service import DispatcherService


@pytest.mark.parametrize("registered", [True, False])
async def test_only_a_registered_app_looks_for_rooms(registered):
    settings = Settings(
        livekit=LiveKitSettings(
            url="ws://livekit", api_key="key", api_secret="s" * 32, registered=registered
        )
    )
    service = DispatcherService(
        settings, program(), FakeFleet(), access=Access(token="token"), clock=SystemClock()
    )
    commands = [
        *service._core.handle(inp.FleetFound(hosts=(), replicas=())),
        *service._core.handle(inp.WorkerRegistered(worker_id="AW_1")),
        *service._core.handle(inp.Tick()),
    ]
    assert any(isinstance(each, cmd.ListRooms) for each in commands) is registered
    await service.aclose()


@pytest.mark.parametrize(("name", "refused"), [("", True), ("named", False)])
async def test_an_app_that_livekit_sends_everywhere_begins_no_job_of_its_own(name, refused):
    # Nothing listens there: what is not refused fails at the room.
    livekit = LiveKitSettings(url="ws://127.0.0.1:9", api_key="key", api_secret="s" * 32)
    service = DispatcherService(
        Settings(livekit=livekit),
        program(agent_name=name),
        FakeFleet(),
        access=Access(token="token"),
        clock=SystemClock(),
    )
    with pytest.raises(ConfigError if refused else ConnectionFailedError):
        await service.simulate("room", "")
    await service.aclose()
