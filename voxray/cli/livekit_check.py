"""Checks of the LiveKit server that the settings name: reachable, keys accepted, same time."""

import base64
import hmac
import http.client
import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from email.message import Message
from email.utils import parsedate_to_datetime
from pathlib import Path

from voxray.base.errors import ConfigError
from voxray.base.settings import LiveKitSettings
from voxray.cli.checks import Level, Result

_NAME = "livekit"
_TIMEOUT_S = 5.0
_TOKEN_LIFE_S = 60
_LIST_ROOMS = "/twirp/livekit.RoomService/ListRooms"
# Tokens are valid from the moment they are made; servers allow for a minute.
_LARGEST_SKEW_S = 30.0


@dataclass(frozen=True, kw_only=True)
class _Answer:
    status: int
    server_time: float | None


def check_livekit(settings: LiveKitSettings) -> tuple[Result, Result]:
    """Check that the server answers and takes the keys, and that its clock agrees with ours."""
    try:
        settings.require_complete()
    except ConfigError as error:
        nothing_set = not (settings.url or settings.api_key)
        return (
            Result(
                name=_NAME,
                level=Level.WARNING if nothing_set else Level.FAILED,
                found=str(error),
                remedy="`voxray demo` brings a server of its own; `voxray start` needs yours",
            ),
            _check_clock(None),
        )
    try:
        answer = _list_rooms(settings)
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        return (
            Result(
                name=_NAME,
                level=Level.FAILED,
                found=f"{settings.url} does not answer: {reason}",
                remedy="check LIVEKIT_URL, and that the server runs and is reachable from here",
            ),
            _check_clock(None),
        )
    return _judge(settings, answer), _check_clock(answer.server_time)


def _judge(settings: LiveKitSettings, answer: _Answer) -> Result:
    if answer.status == 200:
        return Result(
            name=_NAME, level=Level.OK, found=f"{settings.url} answers and takes the keys"
        )
    if answer.status in {401, 403}:
        return Result(
            name=_NAME,
            level=Level.FAILED,
            found=f"{settings.url} refuses the keys (status {answer.status})",
            remedy="check LIVEKIT_API_KEY and LIVEKIT_API_SECRET",
        )
    return Result(
        name=_NAME,
        level=Level.FAILED,
        found=f"{settings.url} answers with status {answer.status}",
        remedy="check that LIVEKIT_URL names a LiveKit server",
    )


def _list_rooms(settings: LiveKitSettings) -> _Answer:
    address = settings.url.rstrip("/")
    if address.startswith("ws"):
        address = f"http{address.removeprefix('ws')}"
    token = _token(settings)
    request = urllib.request.Request(  # noqa: S310 - the settings allow ws(s) and http(s) only
        f"{address}{_LIST_ROOMS}",
        data=b"{}",
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:  # noqa: S310 - as above
            return _Answer(status=response.status, server_time=_date(response.headers))
    except urllib.error.HTTPError as error:
        with error:
            return _Answer(status=error.code, server_time=_date(error.headers))


def _token(settings: LiveKitSettings) -> str:
    """Return a token that may list rooms.

    Made by hand: PyJWT warns of the short secrets that LiveKit's development mode uses.
    """
    now = int(time.time())
    claims = {
        "iss": settings.api_key,
        "nbf": now - _TOKEN_LIFE_S,
        "exp": now + _TOKEN_LIFE_S,
        "video": {"roomList": True},
    }
    parts = [
        _base64(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims)
    ]
    secret = settings.api_secret.get_secret_value().encode()
    signature = hmac.digest(secret, b".".join(parts), "sha256")
    return b".".join([*parts, _base64(signature)]).decode()


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _date(headers: Message) -> float | None:
    try:
        return parsedate_to_datetime(headers.get("Date", "")).timestamp()
    except ValueError:
        return None


def _check_clock(server_time: float | None) -> Result:
    """Compare the clock with LiveKit's, or at least with the age of our own files."""
    now = time.time()
    # A second of the difference may be rounding: the header has whole seconds.
    if server_time is not None and abs(now - server_time) > _LARGEST_SKEW_S:
        found = f"differs from LiveKit's by {now - server_time:+.0f} s: tokens are refused"
    elif now < Path(__file__).stat().st_mtime - _LARGEST_SKEW_S:
        found = "is behind the date of voxray's own files"
    else:
        agrees = "" if server_time is None else ", agrees with LiveKit's"
        return Result(name="clock", level=Level.OK, found=f"plausible{agrees}")
    return Result(
        name="clock", level=Level.FAILED, found=found, remedy="set the clock (NTP, chrony)"
    )
