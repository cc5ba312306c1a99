"""Ctrl-C and SIGTERM as an orderly end: the command's task is cancelled and cleans up."""

import asyncio
import signal
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SIGNAL_EXIT_BASE = 128


class Interrupts:
    """Turns signals into the cancellation of one task.

    Args:
        task: what the first signal cancels.
        say: told what a signal does.
    """

    def __init__(self, task: "asyncio.Task[Any]", say: Callable[[str], None]) -> None:
        self._task = task
        self._say = say
        self._expected: deque[tuple[str, asyncio.Event]] = deque()
        self._winding_down = False
        self._received: signal.Signals | None = None

    @property
    def exit_code(self) -> int | None:
        """What a shell expects of a command that a signal ended; None without a signal."""
        return None if self._received is None else _SIGNAL_EXIT_BASE + self._received

    def listen(self) -> None:
        """Take the signals over. Again after anything that sets handlers of its own (Ray does)."""
        for number in _SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal, number)

    def ignore(self) -> None:
        """Give the signals back."""
        for number in _SIGNALS:
            asyncio.get_running_loop().remove_signal_handler(number)

    def wind_down(self) -> None:
        """From here on signals change nothing: everything is being taken down already."""
        self._winding_down = True
        self._expected.clear()

    def expect(self, answer: str) -> asyncio.Event:
        """Return an event for the next signal that is not expected yet.

        Such a signal cancels nothing and is answered with `answer`. Several may be expected at
        once, so that none falls between two of them.
        """
        event = asyncio.Event()
        self._expected.append((answer, event))
        return event

    async def wait(self) -> None:
        """Wait for a signal, which then cancels nothing."""
        event = self.expect("stopping")
        try:
            await event.wait()
        finally:
            self._expected = deque(each for each in self._expected if each[1] is not event)

    def _on_signal(self, number: signal.Signals) -> None:
        if self._expected:
            answer, event = self._expected.popleft()
            self._say(answer)
            event.set()
        elif self._received is None and not self._winding_down:
            # Only the first: a second one would cut the clean-up short and leave processes behind.
            self._received = number
            self._say("stopping; this takes a few seconds")
            self._task.cancel()
        else:
            self._say("still stopping")


def run_interruptibly(
    main: Callable[[Interrupts], Coroutine[Any, Any, T]], say: Callable[[str], None]
) -> T:
    """Run a command's coroutine until it returns or a signal has ended it in order.

    Raises:
        SystemExit: a signal ended it; with 130 after Ctrl-C, 143 after SIGTERM.
    """

    async def run() -> T:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a command runs as a task")
        interrupts = Interrupts(task, say)
        interrupts.listen()
        try:
            return await main(interrupts)
        except asyncio.CancelledError:
            if interrupts.exit_code is None:
                raise
            raise SystemExit(interrupts.exit_code) from None
        finally:
            interrupts.ignore()

    return asyncio.run(run())
