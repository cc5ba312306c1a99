import asyncio
import subprocess
import sys
import threading

import pytest

from tests.fakes.inference_client import FakeInferenceClient
from voxray.pipelines import runtime
from voxray.pipelines.embedded import EmbeddedInferenceClient


@pytest.fixture(autouse=True)
def _clean() -> None:
    runtime.shutdown()


async def test_an_installed_client_is_used_until_it_is_taken_back() -> None:
    first, second = FakeInferenceClient(), FakeInferenceClient()
    runtime.install(first)
    assert runtime.current() is first
    runtime.install(second)
    runtime.uninstall(first)
    assert runtime.current() is second
    runtime.uninstall(second)
    assert isinstance(runtime.current(), EmbeddedInferenceClient)
    runtime.shutdown()


async def test_the_engines_of_the_process_are_there_beside_an_installed_client() -> None:
    client = FakeInferenceClient()
    runtime.install(client)
    here = runtime.local()
    assert isinstance(here, EmbeddedInferenceClient)
    runtime.prewarm("vad", here=True)
    stream = await here.open("vad", {})
    assert stream.info.name == "silero"
    await stream.aclose()
    runtime.uninstall(client)
    assert runtime.current() is here
    runtime.shutdown()


async def test_a_loop_has_one_client_and_another_loop_its_own() -> None:
    mine = runtime.current()
    assert runtime.current() is mine

    async def theirs() -> object:
        return runtime.current()

    assert await asyncio.to_thread(lambda: asyncio.run(theirs())) is not mine
    runtime.shutdown()


def test_without_a_loop_there_is_no_client() -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        runtime.current()


async def test_nothing_is_warmed_beside_an_installed_client() -> None:
    threads = threading.active_count()
    client = FakeInferenceClient()
    runtime.install(client)
    runtime.prewarm("stt")
    runtime.uninstall(client)

    assert threading.active_count() == threads


async def test_after_a_shutdown_it_begins_anew() -> None:
    threads = threading.active_count()
    before = runtime.current()
    runtime.shutdown()
    runtime.shutdown()
    assert threading.active_count() == threads

    assert runtime.current() is not before
    runtime.shutdown()


def test_a_program_that_closes_nothing_ends_quietly() -> None:
    program = """
import asyncio
from voxray.pipelines import runtime

async def main():
    runtime.prewarm("tts")
    stream = await runtime.current().open("vad", {})
    stream.push_audio(bytes(3200), 16_000)
    print((await stream.receive()).end_sample)

asyncio.run(main())
"""
    result = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    # asyncio's debug mode also tells how slow a busy machine is.
    told = [line for line in result.stderr.splitlines() if not line.startswith("Executing <")]
    assert (result.returncode, result.stdout, told) == (0, "512\n", [])
