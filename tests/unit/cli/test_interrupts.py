"""Signals end a command in order."""

import asyncio
import os
import signal

import pytest

from voxray.cli.interrupts import run_interruptibly


async def for_ever():
    await asyncio.get_running_loop().create_future()


def test_result_of_a_command():
    async def main(_):
        return 7

    assert run_interruptibly(main, print) == 7


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_ends_a_command_after_its_clean_up(number, code):
    done, said = [], []

    async def main(_):
        os.kill(os.getpid(), number)
        try:
            await for_ever()
        finally:
            # Impatient users send more of them: the clean-up goes on.
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(0.01)
            done.append("clean-up")

    with pytest.raises(SystemExit) as exit_:
        run_interruptibly(main, said.append)
    assert exit_.value.code == code
    assert done == ["clean-up"]
    assert said == ["stopping; this takes a few seconds", "still stopping", "still stopping"]


def test_signal_that_is_waited_for_cancels_nothing():
    async def main(interrupts):
        waiting = asyncio.create_task(interrupts.wait())
        await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGTERM)
        await waiting
        return "ended"

    assert run_interruptibly(main, lambda _: None) == "ended"


def test_handlers_are_taken_back():
    async def main(interrupts):
        signal.signal(signal.SIGTERM, lambda *_: pytest.fail("the handler of another library"))
        interrupts.listen()
        os.kill(os.getpid(), signal.SIGTERM)
        await for_ever()

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit):
        run_interruptibly(main, lambda _: None)
    signal.signal(signal.SIGTERM, before)


def test_cancellation_of_our_own_is_no_signal():
    async def main(_):
        asyncio.current_task().cancel()
        await for_ever()

    with pytest.raises(asyncio.CancelledError):
        run_interruptibly(main, lambda _: None)


def test_a_signal_while_everything_is_taken_down_changes_nothing():
    said = []

    async def command(interrupts):
        first, second = interrupts.expect("draining"), interrupts.expect("stopping now")
        # Both at once: the second must not fall into a gap between two waits.
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        await first.wait()
        await second.wait()
        interrupts.wind_down()
        os.kill(os.getpid(), signal.SIGINT)
        await until_said(said, 3)
        return "down"

    assert run_interruptibly(command, said.append) == "down"
    assert sorted(said) == ["draining", "still stopping", "stopping now"]


async def until_said(said, count):
    # A signal reaches the loop by its wake-up pipe, a turn or two later.
    async with asyncio.timeout(5):
        while len(said) < count:  # noqa: ASYNC110 - nothing else tells of it
            await asyncio.sleep(0)
