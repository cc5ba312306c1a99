"""Logs: one line per event, for people or as JSON, with the process's role on every line."""

import json
import logging
import re
import sys
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime

from voxray.base.settings import TelemetrySettings

_LEVELS = {"TRACE": 5, "DEBUG": 10, "INFO": 20, "WARN": 30, "ERROR": 40, "CRITICAL": 50}
_COLOURS = {10: "2", 20: "36", 30: "33", 40: "31", 50: "1;31"}
# Libraries that say more at INFO than an operator of calls wants to read.
_QUIETER = ("aiohttp.access", "asyncio", "grpc", "ray", "urllib3")
# LiveKit's native runtime says these at the ordinary end of every room, as warnings and errors.
_NATIVE_NOISE = (
    re.compile(r"publisher data channel '\w+' closed unexpectedly"),
    re.compile(r"Attempted to drop unknown FFI handle"),
)
# livekit-agents marks what may name a person, or hold their words, with this prefix.
_PRIVATE_PREFIX = "lk.pii."
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure(telemetry: TelemetrySettings, *, role: str, fields: Mapping[str, str]) -> None:
    """Send this process's logs to standard error.

    Args:
        telemetry: level and format.
        role: `dispatcher`, `host`, `replica` or `cli`.
        fields: put on every line, e.g. the host id.
    """
    handler = logging.StreamHandler(sys.stderr)
    static = {"role": role, **fields}
    handler.setFormatter(
        JsonFormatter(static)
        if telemetry.log_format == "json"
        else PlainFormatter(static, colours=sys.stderr.isatty())
    )
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    logging.getLogger("aiohttp.server").addFilter(_is_no_nonsense)
    # LiveKit's own development keys (devkey, secret) are short.
    warnings.filterwarnings("ignore", message="The HMAC key is")
    logging.getLogger("livekit").addFilter(_demote_native_noise)
    set_level(telemetry.log_level)


def set_level(name: str) -> None:
    """Print what is at least as severe as a level of livekit-agents' (`TRACE` to `CRITICAL`)."""
    level = _LEVELS[name]
    logging.getLogger().setLevel(level)
    logging.getLogger("livekit").setLevel(level)
    for quieter in _QUIETER:
        logging.getLogger(quieter).setLevel(max(level, logging.WARNING))


def _demote_native_noise(record: logging.LogRecord) -> bool:
    """Treat what the native runtime says at every ordinary end as the debugging aid that it is."""
    if record.levelno > logging.DEBUG and any(
        noise.search(record.getMessage()) for noise in _NATIVE_NOISE
    ):
        record.levelno, record.levelname = logging.DEBUG, "DEBUG"
        return logging.getLogger(record.name).isEnabledFor(logging.DEBUG)
    return True


def _is_no_nonsense(record: logging.LogRecord) -> bool:
    """Pass over bytes that are no HTTP: aiohttp answers them, and logs them with a traceback."""
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or all(base.__name__ != "HttpProcessingError" for base in kind.__mro__)


class JsonFormatter(logging.Formatter):
    """One JSON object per line, under livekit-agents' names: time, level, name, message, extras."""

    def __init__(self, static: Mapping[str, str]) -> None:
        super().__init__()
        self._static = dict(static)

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, object] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "name": record.name,
            "message": record.getMessage(),
            **self._static,
            "pid": record.process,
            **_extras(record),
        }
        if record.exc_info:
            line["exc_info"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class PlainFormatter(logging.Formatter):
    """A short line for people: time, level, role, message, and the extra fields."""

    def __init__(self, static: Mapping[str, str], *, colours: bool) -> None:
        super().__init__()
        self._prefix = " ".join(static.values())
        self._colours = colours

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        time = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S.%f")[:-3]
        level = f"{record.levelname:<5}"
        if self._colours:
            level = f"\033[{_COLOURS.get(record.levelno, '0')}m{level}\033[0m"
        fields = " ".join(f"{key}={value}" for key, value in _extras(record).items())
        line = f"{time} {level} [{self._prefix}] {record.name}: {record.getMessage()}"
        line = f"{line} {fields}" if fields else line
        if record.exc_info:
            line = f"{line}\n{self.formatException(record.exc_info)}"
        return line


def _extras(record: logging.LogRecord) -> dict[str, object]:
    return {
        key: value
        for key, value in vars(record).items()
        if key not in _STANDARD and not key.startswith(("_", _PRIVATE_PREFIX))
    }
