"""What `rtc_compat` relies on: how the binding loads the native runtime; that quiet is quiet."""

import json
import os
import subprocess
import sys

# The native runtime lives once a process, so each trial has its own. It connects to a port where
# nobody listens, which makes the runtime write a good many records.
_TRIAL = """
import asyncio, json, os, sys
from voxray.actors import rtc_compat

if sys.argv[1] == "quiet":
    rtc_compat.quiet_native_runtime(os.environ)
    rtc_compat.quiet_native_runtime(os.environ)

from livekit import rtc
from livekit.rtc import _ffi_client

records = 0
real = _ffi_client.to_python_level

def count(level):
    global records
    records += 1
    return real(level)

_ffi_client.to_python_level = count

async def main():
    try:
        await rtc.Room().connect("ws://127.0.0.1:1", "no token")
    except rtc.ConnectError:
        print(json.dumps({"records": records, "filter": os.environ.get("RUST_LOG")}))

asyncio.run(main())
"""


def _records(mode: str, **environment: str) -> tuple[int, str | None]:
    clean = {name: value for name, value in os.environ.items() if name != "RUST_LOG"}
    done = subprocess.run(
        [sys.executable, "-c", _TRIAL, mode],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    answer = json.loads(done.stdout.splitlines()[-1])
    return answer["records"], answer["filter"]


def test_the_binding_takes_every_record_by_itself() -> None:
    records, _ = _records("as it is")
    assert records > 0


def test_a_quiet_runtime_hands_no_record_over() -> None:
    assert _records("quiet") == (0, "error,livekit::rtc_engine::rtc_session=off")


def test_what_the_user_asks_for_is_kept() -> None:
    assert _records("quiet", RUST_LOG="debug") == (0, "debug")


def test_debugging_keeps_the_binding_as_it_is() -> None:
    records, _ = _records("quiet", LIVEKIT_RTC_DEBUG="1")
    assert records > 0
