"""Runs the models that plugins registered (the bundled turn detectors) in this process.

A stock worker gives them a process of their own; here all jobs of a host share them by threads,
so that a model is in memory once and an utterance crosses no socket.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from voxray.actors.program import InferenceRunner

logger = logging.getLogger(__name__)


class LocalInference:
    """An inference executor over threads. Close is idempotent and safe before start."""

    def __init__(self, runners: Mapping[str, Callable[[], InferenceRunner]]) -> None:
        self._factories = dict(runners)
        self._runners: dict[str, InferenceRunner] = {}
        self._executor = ThreadPoolExecutor(
            max_workers=os.cpu_count() or 1, thread_name_prefix="inference-runner"
        )

    def load(self) -> None:
        """Load every model; one that fails is left out, as in a stock worker. Blocks."""
        for method, factory in self._factories.items():
            try:
                runner = factory()
                runner.initialize()
            except Exception:
                logger.exception("inference runner did not load", extra={"method": method})
            else:
                self._runners[method] = runner

    async def do_inference(self, method: str, data: bytes) -> bytes | None:
        """Run one request.

        Raises:
            LookupError: no such runner, or it did not load.
        """
        runner = self._runners.get(method)
        if runner is None:
            raise LookupError(f"no inference runner {method} is loaded")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, runner.run, data)

    def close(self) -> None:
        """Let the threads go; a running request is not waited for."""
        self._executor.shutdown(wait=False, cancel_futures=True)
