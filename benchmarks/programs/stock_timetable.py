"""The timetable program under the stock worker: PROCESS or THREAD by the argument before `start`.

The stock worker turns jobs away by CPU load (0.7 by default), which on a small machine would
measure its refusals instead of its costs: the limit is lifted here, unless STOCK_LOAD_LIMIT is
`default`.
"""

import math
import os
import sys
from pathlib import Path

from livekit.agents import JobExecutorType, cli

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples" / "timetable"))

from agent import server

server.update_options(job_executor_type=JobExecutorType(os.environ["STOCK_EXECUTOR"]))
if os.environ.get("STOCK_LOAD_LIMIT", "none") == "none":
    server.update_options(load_threshold=math.inf)

if __name__ == "__main__":
    cli.run_app(server)
