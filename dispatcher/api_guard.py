"""What every request to the dispatcher's HTTP API passes: who may ask, and errors as JSON."""

import hmac
import json
import logging
from collections.abc import Awaitable, Callable
from typing import TypeAlias
from urllib.parse import urlparse

from aiohttp import web
from aiohttp.typedefs import Middleware

from voxray.base.addresses import is_loopback
from voxray.base.errors import VoxrayError

logger = logging.getLogger(__name__)

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

HEALTH_PATHS = frozenset({"/", "/healthz", "/readyz"})
"""What may be asked without a token: probes carry none."""


def guard(*, token: str, open_access: bool) -> Middleware:
    """Make the middleware.

    Args:
        token: what `Authorization: Bearer` must carry.
        open_access: whether the token is not asked for, as on loopback. A browser there may act
            for any page that it shows, so what such a page sends is refused all the same.
    """
    expected = f"Bearer {token}".encode()

    def may_pass(request: web.Request) -> bool:
        if request.path in HEALTH_PATHS:
            return True
        given = request.headers.get("Authorization", "").encode()
        if token and hmac.compare_digest(given, expected):
            return True
        return open_access and not _from_a_page(request)

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not may_pass(request):
            return json_error(
                401,
                "this needs the app's token: `Authorization: Bearer <token>`",
                {"WWW-Authenticate": "Bearer"},
            )
        try:
            return await handler(request)
        except web.HTTPException as error:
            return _http_error(request, error)
        except VoxrayError as error:
            return json_error(503 if error.retryable else 400, str(error))
        except Exception:
            logger.exception("request failed", extra={"path": request.path})
            return json_error(500, "the dispatcher failed on this request; its log says why")

    return middleware


def json_error(status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    """Return an error as the API's clients read it."""
    return web.json_response({"error": message}, status=status, headers=headers)


def bad_request(message: str) -> web.HTTPBadRequest:
    """Return what a handler raises about a parameter."""
    return web.HTTPBadRequest(reason="Bad Request", text=message)


def _http_error(request: web.Request, error: web.HTTPException) -> web.Response:
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return json_error(
            405, f"{request.path} takes {allowed}, not {request.method}", {"Allow": allowed}
        )
    if isinstance(error, web.HTTPNotFound) and request.match_info.http_exception is error:
        return json_error(404, f"there is no {request.path} here")
    return json_error(error.status, error.text or error.reason)


def _from_a_page(request: web.Request) -> bool:
    """Whether a page of another origin sent this: its browser says so, or took us for its host."""
    origin = request.headers.get("Origin")
    if origin is not None and urlparse(origin).netloc != request.host:
        return True
    if request.headers.get("Sec-Fetch-Site", "none") not in {"none", "same-origin"}:
        return True
    try:
        return not is_loopback(urlparse(f"//{request.host}").hostname or "")
    except ValueError:
        return True


def read_json(body: bytes) -> dict[str, object]:
    """Return the object in a request's body; an empty body is an empty object.

    Raises:
        web.HTTPBadRequest: it holds something else.
    """
    try:
        content = json.loads(body) if body else {}
    except ValueError as error:
        raise bad_request("the body must be JSON") from error
    if not isinstance(content, dict):
        raise bad_request("the body must be a JSON object")
    return content
