"""The certificates of an app's gRPC ports: read, and tried out, before anything starts."""

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from voxray.base.errors import ConfigError


class TlsSettings(BaseModel):
    """Mutual TLS on the gRPC ports of hosts and replicas; off while no file is named.

    Each process of the app shows the certificate, and asks the other end for one of the same
    authority. The files have to be at the same paths on every node.

    Attributes:
        cert: file with the certificate, in PEM; those between it and the authority follow it.
        key: file with its key, in PEM, without a password.
        ca: file with the certificate of the authority, in PEM.
        server_name: DNS name in the certificate; processes come and go at any address.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cert: str = ""
    key: str = ""
    ca: str = ""
    server_name: Annotated[str, Field(min_length=1)] = "voxray"

    @property
    def enabled(self) -> bool:
        """Whether TLS is asked for."""
        return bool(self.cert)

    @model_validator(mode="after")
    def _all_or_none(self) -> Self:
        missing = [name for name in ("cert", "key", "ca") if not getattr(self, name)]
        if 0 < len(missing) < 3:
            raise ValueError(f"cert, key and ca belong together, missing: {', '.join(missing)}")
        return self


@dataclass(frozen=True, kw_only=True)
class Certificates:
    """What both ends of a connection show each other, as PEM.

    Attributes:
        certificate: of this process, with those between it and the authority.
        key: of the certificate.
        authority: who has to have signed the other end's.
        server_name: the name that a server's certificate has to carry.
    """

    certificate: bytes
    key: bytes = field(repr=False)
    authority: bytes
    server_name: str


def load_certificates(settings: TlsSettings) -> Certificates | None:
    """Read the files and have them talk to themselves; None where no TLS is asked for.

    Raises:
        ConfigError: a file can't be read, is no PEM, does not fit the others, has expired, or does
            not carry the server's name.
    """
    if not settings.enabled:
        return None
    certificates = Certificates(
        certificate=_read("cert", settings.cert),
        key=_read("key", settings.key),
        authority=_read("ca", settings.ca),
        server_name=settings.server_name,
    )
    _try_out(settings)
    return certificates


def _read(name: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(
            f"inference.tls.{name}: {path} can't be read: {error.strerror or error}"
        ) from error


def _try_out(settings: TlsSettings) -> None:
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    server.verify_mode = ssl.CERT_REQUIRED
    for context in (server, client):
        try:
            context.load_cert_chain(settings.cert, settings.key, password=_no_password)
        except (ssl.SSLError, ValueError) as error:
            raise ConfigError(
                f"inference.tls: {settings.cert} and {settings.key} are no certificate with its"
                f" key, in PEM and without a password: {_reason(error)}"
            ) from error
        try:
            context.load_verify_locations(settings.ca)
        except ssl.SSLError as error:
            raise ConfigError(
                f"inference.tls.ca: {settings.ca} is no certificate in PEM: {_reason(error)}"
            ) from error
    try:
        _handshake(server, client, settings.server_name)
    except ssl.SSLError as error:
        raise ConfigError(
            f"inference.tls: a host would refuse a replica with {settings.cert}, or it the host:"
            f" {_reason(error)}"
        ) from error


def _handshake(server: ssl.SSLContext, client: ssl.SSLContext, server_name: str) -> None:
    """Connect the two in memory, as a host and a replica will."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(down, up, server_hostname=server_name),
        server.wrap_bio(up, down, server_side=True),
    ]
    # Each of the few messages of a handshake lets one end go on.
    for _ in range(10):
        for end in tuple(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            ends.remove(end)
    if ends:
        raise ssl.SSLError("the handshake does not come to an end")


def _no_password() -> str:
    raise ValueError("the key asks for a password")


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    return getattr(error, "reason", None) or str(error)
