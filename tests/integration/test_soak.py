"""A short run of what `make soak` runs at length."""

from pathlib import Path

import pytest

from tests.soak.runs import run_jobs
from voxray.loadtest.livekit_server import LiveKitServer

pytestmark = pytest.mark.timeout(240)
JOBS = 60


async def test_jobs_of_every_fate_add_up(livekit_server: LiveKitServer, tmp_path: Path) -> None:
    result = await run_jobs(livekit_server, tmp_path, JOBS, seed=11)
    assert not result["faults"], result
    assert result["books"]["jobs"] >= JOBS * 0.9, result["books"]
