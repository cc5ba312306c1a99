"""One attempt to open the worker websocket: where it goes, and what a failure means."""

import asyncio
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlparse

import aiohttp

from voxray.base.errors import ConfigError, ConnectionFailedError, CredentialsError
from voxray.base.settings import LiveKitSettings
from voxray.dispatcher.tokens import worker_token

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, kw_only=True)
class DialOptions:
    """How the websocket is opened.

    Attributes:
        proxy: address of an HTTP proxy, or None.
        worker_token: what LiveKit Cloud gives the agents that it hosts; usually empty.
        dial_s: longest time from the first packet to the open websocket.
        heartbeat_s: pause between websocket pings; half of it later without a pong the connection
            counts as broken. Stock waits 30 s, in which no room of this app would get an agent.
        close_s: how long the other side may take to close.
    """

    proxy: str | None = None
    worker_token: str = field(default="", repr=False)
    dial_s: float = 10.0
    heartbeat_s: float = 10.0
    close_s: float = 2.0


def agent_url(url: str) -> str:
    """Return where workers connect: `/agent` below the server's address, as a websocket URL."""
    parsed = urlparse(url)
    scheme = parsed.scheme.replace("http", "ws") if parsed.scheme.startswith("http") else None
    base = f"{scheme or parsed.scheme}://{parsed.netloc}{parsed.path}".rstrip("/") + "/"
    return urljoin(base, "agent")


def display_url(url: str) -> str:
    """Return an address without anything that may be secret in it (user, password, query)."""
    parsed = urlparse(url)
    return f"{parsed.scheme}://{parsed.netloc.rpartition('@')[2]}{parsed.path}"


def proxy_for(url: str, environment: Mapping[str, str], *, given: str | None = None) -> str | None:
    """Return the proxy that leads to an address, or None.

    As in livekit-agents `HTTPS_PROXY` counts before `HTTP_PROXY`, whatever the scheme. Other than
    there, a server on this machine and the names in `NO_PROXY` are reached directly, unless the
    program itself asks for a proxy.

    Args:
        url: LiveKit's address.
        environment: where a proxy may be named.
        given: the program's `http_proxy`: one of its own, or that of the environment; empty for
            none, None where no program says anything.
    """
    host = urlparse(url).hostname or ""
    proxy = environment.get("HTTPS_PROXY") or environment.get("HTTP_PROXY")
    if given is not None and given != (proxy or ""):
        return given or None
    excluded = environment.get("NO_PROXY") or environment.get("no_proxy") or ""
    if not proxy or host in _LOOPBACK or _is_excluded(host, excluded):
        return None
    return proxy


def _is_excluded(host: str, excluded: str) -> bool:
    """Whether `NO_PROXY` names a host, a domain above it, or everything (`*`)."""
    names = [name.strip().lower().lstrip(".") for name in excluded.split(",") if name.strip()]
    return any(name in {"*", host} or host.endswith(f".{name}") for name in names)


async def dial(
    session: aiohttp.ClientSession, settings: LiveKitSettings, options: DialOptions
) -> aiohttp.ClientWebSocketResponse:
    """Open the worker websocket with a fresh token.

    Raises:
        CredentialsError: LiveKit refused the key or its secret.
        ConfigError: the address is of something else, or of nothing that could be LiveKit.
        ConnectionFailedError: anything else; another attempt may succeed.
    """
    shown = display_url(settings.url)
    try:
        # The bound is on the handshake only: what follows may be silent for hours.
        async with asyncio.timeout(options.dial_s):
            return await session.ws_connect(
                agent_url(settings.url),
                headers={"Authorization": f"Bearer {worker_token(settings)}"},
                params={"worker_token": options.worker_token} if options.worker_token else {},
                proxy=options.proxy,
                heartbeat=options.heartbeat_s,
                # Each pong is to be seen: it is a whole frame.
                autoping=False,
                timeout=aiohttp.ClientWSTimeout(ws_close=options.close_s),
            )
    except aiohttp.WSServerHandshakeError as error:
        raise _refused(error.status, shown) from error
    except aiohttp.InvalidURL as error:
        raise ConfigError(
            f"{shown} is no address that can be dialled; check LIVEKIT_URL"
        ) from error
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise ConnectionFailedError(
            f"could not connect to livekit at {shown}: {_reason(error, options)}"
        ) from error


def _refused(status: int, shown: str) -> ConfigError | ConnectionFailedError:
    if status in {401, 403}:
        return CredentialsError(
            f"livekit refused the api key or secret at {shown} (http {status}); "
            "check LIVEKIT_API_KEY and LIVEKIT_API_SECRET"
        )
    if status == 404:
        return ConfigError(
            f"no LiveKit server at this address: {shown} answers http 404; check LIVEKIT_URL"
        )
    return ConnectionFailedError(
        f"could not connect to livekit at {shown}: it answered http {status}"
    )


def _reason(error: BaseException, options: DialOptions) -> str:
    match error:
        case aiohttp.ClientConnectorDNSError():
            reason = f"the name {error.host} does not resolve"
        case aiohttp.ClientConnectorCertificateError():
            reason = f"its certificate is not trusted ({error.certificate_error})"
        case aiohttp.ClientHttpProxyError():
            reason = f"the proxy answered http {error.status}"
        case aiohttp.ClientProxyConnectionError():
            reason = f"the proxy can't be reached ({_os_reason(error.os_error)})"
        case aiohttp.ClientConnectorError():
            reason = _os_reason(error.os_error)
        case aiohttp.ServerDisconnectedError():
            reason = "it hung up on the handshake"
        case TimeoutError():
            reason = f"no answer within {options.dial_s:g} s"
        case OSError():
            reason = _os_reason(error)
        case _:
            reason = f"it does not speak websocket ({type(error).__name__})"
    return reason


def _os_reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"tls failed ({error.reason})"
    # asyncio's own `strerror` is "Connect call failed (address)", without the cause. Numbers below
    # zero are of getaddrinfo.
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno).lower()
    return str(error.strerror or type(error).__name__).lower()
