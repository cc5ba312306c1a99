"""Secrets given as flags do not stay on the command line."""

import json
import os
import subprocess
import sys

import pytest

from voxray.cli.command_line import without_secrets

SHOW = """
import json, os, sys
from voxray.cli.command_line import hide_secrets
hide_secrets()
cmdline = open("/proc/self/cmdline").read()
print(json.dumps([sys.argv[1:], os.environ.get("LIVEKIT_API_SECRET"), cmdline, os.getpid()]))
"""


@pytest.mark.parametrize(
    ("given", "kept", "variables"),
    [
        (["start", "a.py"], ["start", "a.py"], {}),
        (
            ["start", "a.py", "--api-secret", "s", "--url", "ws://h"],
            ["start", "a.py", "--url", "ws://h"],
            {"LIVEKIT_API_SECRET": "s"},
        ),
        (
            ["start", "--api-key=k", "--api-secret=s=t", "a.py"],
            ["start", "a.py"],
            {"LIVEKIT_API_KEY": "k", "LIVEKIT_API_SECRET": "s=t"},
        ),
        (
            ["status", "--api", "http://voxray:t@h:1"],
            ["status"],
            {"VOXRAY_API": "http://voxray:t@h:1"},
        ),
        (["status", "--api", "http://h:1"], ["status", "--api", "http://h:1"], {}),
        (["status", "--api=http://h:1"], ["status", "--api=http://h:1"], {}),
        (["status", "--api", "http://[bad:1"], ["status", "--api", "http://[bad:1"], {}),
        # Click says what is missing.
        (["start", "a.py", "--api-secret"], ["start", "a.py", "--api-secret"], {}),
        (["start", "--", "--api-secret", "s"], ["start", "--", "--api-secret", "s"], {}),
    ],
)
def test_what_carries_a_secret_becomes_a_variable(given, kept, variables):
    assert without_secrets(given) == (kept, variables)


@pytest.mark.parametrize("secret", ["s3cret-of-mine", "with space", "quote'\""])
def test_the_process_goes_on_without_them(tmp_path, secret):
    script = tmp_path / "voxray"
    script.write_text(SHOW)
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", str(script), "start", "a.py", "--api-secret", secret],
        stdout=subprocess.PIPE,
        env={**os.environ, "LIVEKIT_API_SECRET": "older"},
    ) as process:
        arguments, variable, cmdline, pid = json.loads(process.communicate()[0])
    assert (arguments, variable, pid) == (["start", "a.py"], secret, process.pid)
    assert secret not in cmdline
    assert "-W" in cmdline
