import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.fakes.inference_client import FakeInferenceClient
from voxray.pipelines import runtime


@pytest.fixture
async def client() -> AsyncIterator[FakeInferenceClient]:
    """The client that the plugins of the test use; no task of theirs may be left over."""
    client = FakeInferenceClient()
    runtime.install(client)
    yield client
    runtime.uninstall(client)
    assert all(stream.closed for stream in client.streams)
    # One turn for what was told to end just now.
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
