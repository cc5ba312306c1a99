"""Fixtures for all tests, and the checks that every test leaves the machine as it was."""

import logging
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from voxray.base.errors import MissingPartError
from voxray.cli.home import build_home
from voxray.loadtest.livekit_server import LiveKitServer, find_or_install

# Handed down to every process that the tests start, so that those which detach are found too.
_RUN_MARK = "PYTEST_RUN_MARK"
_TIME_TO_END_S = 10.0
# Python's own helper; it ends with us.
_EXEMPT = "multiprocessing.resource_tracker"
_END_TO_END = ("tests/integration/", "tests/faults/")
_ASYNCIO_FAULTS = ("was destroyed but it is pending", "was never retrieved")


def pytest_configure(config: pytest.Config) -> None:
    """Mark this run for the processes it starts."""
    os.environ[_RUN_MARK] = secrets.token_hex(8)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the end-to-end tests."""
    root = Path(__file__).parent.parent
    for item in items:
        if item.path.relative_to(root).as_posix().startswith(_END_TO_END):
            item.add_marker(pytest.mark.integration)


class _EndToEndInOneLine(LoadScopeScheduling):
    """Deals the tests out to two processes: one plays the end-to-end tests one after the other,
    for each of them needs the machine's time, the other works through the rest beside them."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.split("::", 1)[0]
        return "end-to-end" if path.startswith(_END_TO_END) else path


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling | None:
    """Deal the tests out as `make test` wants it (`-n 2`)."""
    return _EndToEndInOneLine(config, log)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let the tests that wait for nothing give way to the end-to-end tests beside them."""
    beside = "PYTEST_XDIST_WORKER" in os.environ
    if beside and item.get_closest_marker("integration") is None and os.nice(0) == 0:
        os.nice(5)


# --- the real LiveKit server ---------------------------------------------------------------


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build livekit-server now if a test needs it: it takes longer than a test may."""
    wanted = any("livekit_server" in getattr(item, "fixturenames", ()) for item in session.items)
    if wanted and not session.config.option.collectonly:
        try:
            find_or_install(build_home(os.environ), progress=_tell)
        except MissingPartError as error:
            _tell(str(error))  # The tests that need it fail with the same words.


@pytest.fixture(scope="session")
def livekit_server() -> Iterator[LiveKitServer]:
    """A real LiveKit server on loopback, one for the whole run. Use rooms of your own."""
    with LiveKitServer(find_or_install(build_home(os.environ))) as server:
        yield server


@pytest.fixture
def room_name() -> str:
    """A room name that no other test uses."""
    return f"room-{secrets.token_hex(6)}"


def _tell(line: str) -> None:
    sys.__stderr__.write(f"{line}\n")
    sys.__stderr__.flush()


# --- real Ray ------------------------------------------------------------------------------
# The fixtures that start Ray belong here.


# --- what a test may not leave behind ------------------------------------------------------


@pytest.fixture(autouse=True)
def _no_process_left() -> Iterator[None]:
    """Fail a test whose processes outlive it; those of session fixtures may stay."""
    ours = psutil.Process()
    before = set(ours.children())
    yield
    started = [child for child in ours.children() if child not in before and not _exempt(child)]
    _, alive = psutil.wait_procs(started, timeout=_TIME_TO_END_S)
    if alive:
        pytest.fail(f"the test left processes behind: {_named(alive)}")


@pytest.fixture(autouse=True)
def _no_task_left() -> Iterator[None]:
    """Fail a test whose asyncio tasks were destroyed or failed unseen: asyncio only logs that."""
    handler = _AsyncioFaults()
    logging.getLogger("asyncio").addHandler(handler)
    yield
    logging.getLogger("asyncio").removeHandler(handler)
    if handler.faults:
        pytest.fail(f"asyncio complained: {'; '.join(handler.faults)}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run that leaves any process behind, detached ones included."""
    mark = os.environ[_RUN_MARK]
    left = [process for process in psutil.process_iter() if _carries(process, mark)]
    _, alive = psutil.wait_procs(left, timeout=_TIME_TO_END_S)
    if alive:
        _tell(f"the test run left processes behind: {_named(alive)}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


class _AsyncioFaults(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.faults: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if any(fault in text for fault in _ASYNCIO_FAULTS):
            self.faults.append(text.splitlines()[0])


def _carries(process: psutil.Process, mark: str) -> bool:
    try:
        return (
            process.pid != os.getpid()
            and process.environ().get(_RUN_MARK) == mark
            and not _exempt(process)
        )
    except psutil.Error:  # Gone, or not ours to look at.
        return False


def _exempt(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE or _EXEMPT in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return True


def _named(processes: list[psutil.Process]) -> str:
    named = []
    for process in processes:
        try:
            named.append(f"{process.pid} ({' '.join(process.cmdline())[:120]})")
        except psutil.NoSuchProcess:
            continue
    return ", ".join(named)
