"""Python's garbage collector in a dispatcher: pauses that do not grow with the calls.

A full collection looks at every object that it may free. With thousands of calls that takes
seconds, as likely as not in the middle of a burst of offers. But what a call is made of is freed by
its last reference; only short-lived things (tasks, errors with their tracebacks) form the cycles
that the collector is for. So what has survived one full collection is not looked at again; the next
one is about what came since.

What was alive at a full collection and becomes part of a cycle later stays in memory, until `sweep`
looks at everything once more. It is called while there are no calls: the pause meets nobody then.
"""

import gc
from typing import Any


class Collector:
    """Keeps full collections short, from `start` to `stop`. One in a process."""

    def start(self) -> None:
        """Collect once, and from now on look only at what is new."""
        gc.collect()
        gc.freeze()
        gc.callbacks.append(self._heard)

    def stop(self) -> None:
        """Leave the collector as Python has it. Idempotent."""
        if self._heard in gc.callbacks:
            gc.callbacks.remove(self._heard)
            gc.unfreeze()

    def sweep(self) -> None:
        """Look at everything, old objects as well."""
        gc.unfreeze()
        gc.collect()

    def _heard(self, phase: str, info: dict[str, Any]) -> None:
        if phase == "stop" and info["generation"] == _OLDEST:
            gc.freeze()


_OLDEST = 2
"""The generation of a full collection."""
