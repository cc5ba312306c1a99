"""Finds an app's dispatcher and asks its HTTP API."""

import http.client
import ipaddress
import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlparse

from voxray.base.errors import (
    ConfigError,
    ConnectionFailedError,
    CredentialsError,
    ProtocolError,
    VoxrayError,
)
from voxray.cli.run_files import read_run_files

_VARIABLE = "VOXRAY_API"
_APP_VARIABLE = "VOXRAY_APP"
_TIMEOUT_S = 10.0
_LARGEST_ANSWER = 64 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class ApiAddress:
    """Where a dispatcher's API is: `http://host:port`, and the token that it asks for."""

    url: str
    token: str = field(repr=False)


class NotFoundError(ConfigError):
    """The API has nothing of that name."""


def find_api(
    address: str | None, app: str | None, environment: Mapping[str, str] | None = None
) -> ApiAddress:
    """Return the API to ask: the given address, that of a running app, or `VOXRAY_API`.

    What was given on the command line counts before the variables.

    An address may carry its token as a password, `http://voxray:<token>@host:port`.

    Raises:
        ConfigError: the address is none, no app runs here, or several do and none is named.
    """
    variables = os.environ if environment is None else environment
    if address:
        return _parse(address, "--api")
    if not app and (named := variables.get(_VARIABLE)):
        return _parse(named, _VARIABLE)
    runs = read_run_files(variables)
    if wanted := app or variables.get(_APP_VARIABLE):
        runs = tuple(run for run in runs if run.app == wanted)
    if not runs:
        which = f"app {wanted!r} does not run" if wanted else "no app runs"
        raise ConfigError(
            f"{which} on this machine; start one with `voxray start PROGRAM`, "
            f"or give the address of its API (--api or {_VARIABLE})"
        )
    if len(runs) > 1:
        names = ", ".join(run.app for run in runs)
        raise ConfigError(f"several apps run on this machine ({names}): name one with --app")
    return ApiAddress(url=runs[0].api.rstrip("/"), token=runs[0].token)


def is_here(api: ApiAddress) -> bool:
    """Return whether an API's address is this machine's loopback."""
    host = urlparse(api.url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def ask_list(api: ApiAddress, path: str) -> list[Any]:
    """Return the JSON list that the API answers.

    Raises:
        VoxrayError: as `ask`.
    """
    content = _content(api, _fetch(api, path, None, _TIMEOUT_S))
    if not isinstance(content, list):
        raise ProtocolError(f"what answers at {api.url} is no voxray dispatcher")
    return content


def ask(
    api: ApiAddress,
    path: str,
    *,
    post: Mapping[str, Any] | None = None,
    timeout_s: float = _TIMEOUT_S,
) -> dict[str, Any]:
    """Return the JSON object that the API answers.

    Args:
        api: whom to ask.
        path: with its leading slash.
        post: the body of a POST; None makes it a GET.
        timeout_s: how long the answer may take.

    Raises:
        ConnectionFailedError: nobody answers there.
        CredentialsError: the token is missing or wrong.
        NotFoundError: there is no such thing.
        ProtocolError: the answer is not the API's.
        VoxrayError: it refused; the message carries its reason.
    """
    content = _content(api, _fetch(api, path, post, timeout_s))
    if not isinstance(content, dict):
        raise ProtocolError(f"what answers at {api.url} is no voxray dispatcher")
    return content


def _fetch(api: ApiAddress, path: str, post: Mapping[str, Any] | None, timeout_s: float) -> bytes:
    request = urllib.request.Request(  # noqa: S310 - only http(s), see _parse
        f"{api.url}{path}",
        data=None if post is None else json.dumps(post).encode(),
        headers={"Content-Type": "application/json"},
    )
    if api.token:
        request.add_header("Authorization", f"Bearer {api.token}")
    # Never through a proxy: the API is on this machine or in its cluster.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout_s) as response:
            body: bytes = response.read(_LARGEST_ANSWER)
            return body
    except urllib.error.HTTPError as error:
        with error:
            raise _refusal(api, path, error.code, error.read(4096)) from error
    except (OSError, http.client.HTTPException) as error:
        raise ConnectionFailedError(
            f"no dispatcher answers at {api.url} ({_reason(error)}); "
            "is its `voxray start` still running?"
        ) from error


def _refusal(api: ApiAddress, path: str, status: int, body: bytes) -> VoxrayError:
    if status in {401, 403}:
        return CredentialsError(
            f"the dispatcher at {api.url} refuses the token; give it in the address: "
            "http://voxray:TOKEN@host:port"
        )
    try:
        reason = str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        # Every refusal of ours says why.
        return ProtocolError(f"what answers at {api.url} is no voxray dispatcher (status {status})")
    kind = NotFoundError if status == 404 else VoxrayError
    return kind(f"the dispatcher at {api.url} refuses {path}: {reason}")


def _content(api: ApiAddress, body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError as error:
        raise ProtocolError(f"what answers at {api.url} is no voxray dispatcher") from error


def _parse(address: str, source: str) -> ApiAddress:
    mistake = ConfigError(f"{source}: must look like http://host:8081")
    try:
        parsed = urlparse(address)
        host, port = parsed.hostname, parsed.port
    except ValueError as error:
        raise mistake from error
    if parsed.scheme not in {"http", "https"} or not host:
        raise mistake
    host = f"[{host}]" if ":" in host else host
    netloc = host if port is None else f"{host}:{port}"
    return ApiAddress(
        url=f"{parsed.scheme}://{netloc}{parsed.path.rstrip('/')}", token=parsed.password or ""
    )


def _reason(error: Exception) -> str:
    inner = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror.lower()
    return str(inner) or type(inner).__name__
