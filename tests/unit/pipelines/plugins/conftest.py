import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.fakes.inference_client import FakeInferenceClient
from voxray.base.errors import EngineConfigError
from voxray.pipelines import runtime


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> FakeInferenceClient:
    """What this process itself can run: nothing, unless a test lets it."""
    fake = FakeInferenceClient(refuses=EngineConfigError("no engine in this process"))
    monkeypatch.setattr(runtime, "local", lambda: fake)
    monkeypatch.setattr(runtime, "prewarm", lambda _engine, *, here=False: None)
    return fake


@pytest.fixture
async def client(local: FakeInferenceClient) -> AsyncIterator[FakeInferenceClient]:
    """The client that the plugins of the test use; no task of theirs may be left over."""
    client = FakeInferenceClient()
    runtime.install(client)
    yield client
    runtime.uninstall(client)
    assert all(stream.closed for stream in client.streams + local.streams)
    # One turn for what was told to end just now.
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
