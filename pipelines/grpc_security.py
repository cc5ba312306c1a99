"""Ports and channels of gRPC, with mutual TLS where certificates are given."""

from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio

from voxray.base.addresses import is_loopback
from voxray.base.errors import ConfigError, PortTakenError
from voxray.base.tls import Certificates

Options = Sequence[tuple[str, Any]]


def listen(
    server: grpc.aio.Server,
    who: str,
    address: str,
    port: int,
    *,
    token: str | None,
    certificates: Certificates | None,
) -> int:
    """Give a server its port, and return it; 0 takes a free one.

    Args:
        server: not yet started.
        who: listens, for errors.
        address: the address to listen on.
        port: the port.
        token: what the server asks its callers for.
        certificates: ours; None listens without TLS.

    Raises:
        ConfigError: others would reach it without a token.
        PortTakenError: the port can't be had.
    """
    if token is None and not is_loopback(address):
        raise ConfigError(f"{who} does not listen on {address} without a token: others reach it")
    where = f"{address}:{port}"
    try:
        if certificates is None:
            return int(server.add_insecure_port(where))
        credentials = grpc.ssl_server_credentials(
            [(certificates.key, certificates.certificate)],
            root_certificates=certificates.authority,
            require_client_auth=True,
        )
        return int(server.add_secure_port(where, credentials))
    except RuntimeError as error:
        raise PortTakenError(f"{who} can't listen on {where}: {error}") from error


def open_channel(
    address: str, options: Options, certificates: Certificates | None
) -> grpc.aio.Channel:
    """Return a channel to a server of the app."""
    if certificates is None:
        return grpc.aio.insecure_channel(address, options=options)
    credentials = grpc.ssl_channel_credentials(
        certificates.authority, certificates.key, certificates.certificate
    )
    # Replicas and hosts come and go at any address: their certificates carry one name.
    named = (*options, ("grpc.ssl_target_name_override", certificates.server_name))
    return grpc.aio.secure_channel(address, credentials, options=named)
