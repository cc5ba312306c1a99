"""The demo's flow, with the example under the stock worker in the place of a deployment."""

import json
import os
import signal
import subprocess
import sys
import wave
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# The command as the console script runs it, but for the deployment.
COMMAND = """
import voxray.cli.demo as command
from tests.fakes.stock_worker import stock_worker
command._deploy = stock_worker
command.demo()
"""


@pytest.fixture
def start_demo(livekit_server, tmp_path):
    """Start the demo against the tests' LiveKit server."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "LIVEKIT_API_KEY": livekit_server.api_key,
        "LIVEKIT_API_SECRET": livekit_server.api_secret,
    }

    def start(*options):
        return subprocess.Popen(
            [sys.executable, "-c", COMMAND, "--url", livekit_server.url, *options],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def test_three_questions(start_demo, tmp_path):
    process = start_demo("--json", "--seed", "1")
    output, progress = process.communicate(timeout=110)
    assert process.returncode == 0, progress
    result = json.loads(output)
    assert result["ok"]
    assert result["seed"] == 1
    assert result["totals"]["correct"] == 3
    assert len({turn["said"] for turn in result["turns"]}) == 3
    for turn in result["turns"]:
        assert turn["correct"]
        assert turn["understood"]
        assert turn["latency_s"] > 0
        assert turn["said"] in progress
        assert turn["answer"] in progress
    with wave.open(str(tmp_path / "demo.wav")) as file:
        assert file.getnchannels() == 2
        assert file.getnframes() > 5 * file.getframerate()


def test_wrong_answer_is_an_exit_code(start_demo, tmp_path):
    questions = [{"say": "How much is a ticket to Boston?", "expect": ["a fortune"]}]
    (tmp_path / "q.json").write_text(json.dumps(questions))
    process = start_demo("--json", "--questions", "q.json", "--record", "call.wav")
    output, progress = process.communicate(timeout=110)
    assert process.returncode == 1, progress
    (turn,) = json.loads(output)["turns"]
    assert "24 dollars" in turn["answer"]
    assert not turn["correct"]
    assert "a fortune" in progress
    assert (tmp_path / "call.wav").is_file()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_within_a_call(start_demo, tmp_path, number, code):
    process = start_demo()
    for line in process.stderr:
        if "said" in line:
            process.send_signal(number)
            break
    _, progress = process.communicate(timeout=60)
    assert process.returncode == code, progress
    assert "Traceback" not in progress
    assert (tmp_path / "demo.wav").is_file()


def test_signal_before_anything_runs(start_demo):
    process = start_demo("--seed", "1")
    for line in process.stderr:
        if "seed 1" in line:
            process.send_signal(signal.SIGTERM)
            break
    process.communicate(timeout=60)
    assert process.returncode in {143, -signal.SIGTERM}


def test_kept_up_until_a_signal(start_demo):
    process = start_demo("--json", "--keep", "--seed", "2")
    for line in process.stderr:
        if "Still up" in line:
            process.send_signal(signal.SIGTERM)
            break
    output, progress = process.communicate(timeout=60)
    assert process.returncode == 0, progress
    assert json.loads(output)["ok"]
