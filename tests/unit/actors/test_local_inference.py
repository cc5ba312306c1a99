"""Inference runners on threads of this process."""

import threading

import pytest

from voxray.actors.local_inference import LocalInference


class Echo:
    """A runner that says on which thread it works."""

    def initialize(self) -> None: ...

    def run(self, data: bytes) -> bytes | None:
        return data + threading.current_thread().name.encode()


class Broken(Echo):
    """A runner whose model is missing."""

    def initialize(self) -> None:
        raise FileNotFoundError("model.onnx")


async def test_a_runner_works_off_the_loop() -> None:
    inference = LocalInference({"echo": Echo})
    inference.load()
    answer = await inference.do_inference("echo", b"on ")
    assert answer is not None
    assert answer.startswith(b"on inference-runner")
    inference.close()
    inference.close()


async def test_a_runner_that_does_not_load_leaves_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    inference = LocalInference({"broken": Broken, "echo": Echo})
    inference.load()
    assert "inference runner did not load" in caplog.text
    with pytest.raises(LookupError, match="broken"):
        await inference.do_inference("broken", b"")
    assert await inference.do_inference("echo", b"")
    inference.close()
