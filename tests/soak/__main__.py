"""Long runs against one deployment: jobs of every fate, and calls that leave nothing behind.

make soak                                    # both, into benchmarks/results/
python -m tests.soak jobs --jobs 1000 --seed 7
python -m tests.soak calls --calls 300
python -m tests.soak native --calls 60    # what livekit.rtc keeps by itself, for comparison
"""

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from tests.running_app import ROOT
from tests.soak.calls import run_calls
from tests.soak.native import run_native
from tests.soak.runs import run_jobs
from voxray.cli.home import build_home
from voxray.loadtest.livekit_server import LiveKitServer, find_or_install

WHAT = ["jobs", "calls", "native"]
RESULTS = ROOT / "benchmarks" / "results"


async def _into(name: str, run: Callable[[Path], Awaitable[dict[str, Any]]]) -> bool:
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        result = await run(Path(folder))
    machine = {"cores": os.cpu_count(), "python": platform.python_version()}
    whole = {"seconds": round(time.monotonic() - begun, 1), "machine": machine, **result}
    text = json.dumps(whole, indent=2)
    (RESULTS / f"{name}.json").write_text(text + "\n")
    sys.stdout.write(text + "\n")
    return not result["faults"]


def main() -> int:
    """Run what the command line asks for; 1 if something did not add up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=WHAT, nargs="*", default=WHAT[:2])
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    right = True
    # Rooms close by themselves after a call, as in production, only sooner than after 20 s.
    config = {"room": {"departure_timeout": 3}}
    with LiveKitServer(find_or_install(build_home(os.environ)), extra_config=config) as server:
        if "jobs" in arguments.what:
            right &= asyncio.run(
                _into(
                    "soak_jobs",
                    lambda home: run_jobs(server, home, arguments.jobs, seed=arguments.seed),
                )
            )
        if "calls" in arguments.what:
            right &= asyncio.run(
                _into("soak_calls", lambda home: run_calls(server, home, arguments.calls))
            )
        if "native" in arguments.what:
            text = json.dumps(run_native(server, arguments.calls), indent=2)
            (RESULTS / "soak_native.json").write_text(text + "\n")
            sys.stdout.write(text + "\n")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
