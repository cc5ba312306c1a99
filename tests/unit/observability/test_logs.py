"""Log lines carry the process's role, the message and every extra field."""

import json
import logging

import pytest

from voxray.base.settings import TelemetrySettings
from voxray.observability.logs import JsonFormatter, PlainFormatter, configure


def _record(**extra: object) -> logging.LogRecord:
    return logging.makeLogRecord(
        {"name": "voxray.x", "levelno": 20, "levelname": "INFO", "msg": "host ready", **extra}
    )


def test_json_lines() -> None:
    line = json.loads(JsonFormatter({"role": "host", "host": "aa"}).format(_record(job_id="AJ_1")))
    assert line["message"] == "host ready"
    assert line["role"] == "host"
    assert line["host"] == "aa"
    assert line["job_id"] == "AJ_1"
    assert line["level"] == "INFO"


def test_json_lines_survive_values_that_are_not_json() -> None:
    line = json.loads(JsonFormatter({}).format(_record(thing=object())))
    assert line["thing"].startswith("<object")


def test_plain_lines_name_role_and_fields() -> None:
    line = PlainFormatter({"role": "host", "host": "aa"}, colours=False).format(_record(slots=3))
    assert "[host aa] voxray.x: host ready slots=3" in line


def _fail() -> None:
    raise ValueError("why")


def test_tracebacks_are_kept() -> None:
    try:
        _fail()
    except ValueError as error:
        record = _record(exc_info=(type(error), error, error.__traceback__))
    assert "ValueError: why" in json.loads(JsonFormatter({}).format(record))["exc_info"]
    assert "ValueError: why" in PlainFormatter({}, colours=False).format(record)


def test_what_may_name_a_person_is_left_out() -> None:
    record = _record(**{"lk.pii.user_transcript": "my name is ann", "room_id": "RM_1"})
    for line in (
        JsonFormatter({}).format(record),
        PlainFormatter({}, colours=False).format(record),
    ):
        assert "ann" not in line
        assert "RM_1" in line


def test_what_the_native_runtime_says_at_every_end_is_no_warning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    root, native = logging.getLogger(), logging.getLogger("livekit")
    before = (root.handlers[:], root.level, native.level, native.filters[:])
    try:
        configure(TelemetrySettings(), role="host", fields={})
        native.error("x:704:y - publisher data channel '_lossy' closed unexpectedly")
        native.warning("livekit_ffi::server:279 - Attempted to drop unknown FFI handle: 37")
        native.error("signal client failed to connect")
    finally:
        root.handlers[:], native.filters[:] = before[0], before[3]
        root.setLevel(before[1])
        native.setLevel(before[2])
    printed = capsys.readouterr().err
    assert "signal client failed" in printed
    assert "unexpectedly" not in printed
    assert "FFI handle" not in printed
