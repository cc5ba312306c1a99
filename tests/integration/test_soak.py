"""A short soak: jobs of every fate on one deployment, whose books must be right.

`python -m tests.soak` runs many more, and looks at the growth of the processes too.
"""

from pathlib import Path

import pytest

from tests.soak.runs import FATES, run_jobs
from voxray.loadtest.livekit_server import LiveKitServer

pytestmark = pytest.mark.timeout(240)


async def test_jobs_of_every_fate_leave_nothing(
    livekit_server: LiveKitServer, tmp_path: Path
) -> None:
    result = await run_jobs(livekit_server, tmp_path, 40, seed=5)
    assert result["faults"] == []
    assert set(result["kinds"]) == set(FATES)
    books = result["books"]
    assert books["jobs"] == sum(books["ended"].values())
    assert result["slots"] == {"used": 0, "reserved": 0}
