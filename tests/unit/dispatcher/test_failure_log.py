import logging

import pytest

from voxray.base.ids import HostId
from voxray.cli.event_lines import line_of
from voxray.dispatcher.events_log import EventsLog
from voxray.dispatcher.failure_log import FailureLog
from voxray.dispatcher.warm_pool import StartFailures
from voxray.observability import events as ev

FRAME = "agent.py:3 in setup: raise RuntimeError('no model')"


def failed(repeats, details=()):
    return ev.HostStartFailed(
        host_id=HostId("aa"), reason="no model", details=details, repeats=repeats
    )


def test_the_first_failure_is_told_whole_and_its_repetitions_are_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log, told = FailureLog(), EventsLog()
    with caplog.at_level(logging.INFO):
        for event in (failed(1, (FRAME,)), failed(2), failed(3)):
            log.emit(event)
            told.emit(event)
    first, *others = caplog.records
    assert first.levelno == logging.ERROR
    assert FRAME in first.getMessage()
    assert [record.repeats for record in others] == [2, 3]
    lines = [line_of(record.to_json()) for record in told.events().records]
    assert lines == [f"host aa did not start: no model\n    {FRAME}", "", ""]


def test_a_failure_is_new_when_it_changes_or_a_start_succeeded_between():
    failures = StartFailures()
    assert failures.count("could not call endpoint on host-0badcafe: no answer within 70 s") == 1
    assert failures.count("could not call endpoint on host-0badf00d: no answer within 71 s") == 2
    assert failures.count("agent.py: its setup_fnc raised OSError: no model") == 1
    assert failures.count("agent.py: its setup_fnc raised OSError: no model") == 2
    failures.succeeded()
    assert failures.count("agent.py: its setup_fnc raised OSError: no model") == 1
