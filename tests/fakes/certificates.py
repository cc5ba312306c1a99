"""A certificate authority of the test's own, and what it signs."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from voxray.base.tls import TlsSettings

_LIFE = timedelta(days=30)


class Authority:
    """Signs certificates into a folder."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        now = datetime.now(UTC)
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        self._certificate = (
            _begun(self._name, self._name, self._key, now - _LIFE, now + _LIFE)
            .add_extension(constraints, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.file = _save(folder / f"{name}.pem", self._certificate)

    def sign(
        self, name: str = "voxray", *, file: str = "app", expired: bool = False
    ) -> TlsSettings:
        """Write a certificate and its key; return the settings that name them."""
        key = ec.generate_private_key(ec.SECP256R1())
        end = datetime.now(UTC) + (-timedelta(days=1) if expired else _LIFE)
        certificate = (
            _begun(_named(name), self._name, key, end - 2 * _LIFE, end)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        key_file = self._folder / f"{file}.key"
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return TlsSettings(
            cert=_save(self._folder / f"{file}.pem", certificate), key=str(key_file), ca=self.file
        )


def _named(name):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _begun(subject, issuer, key, begin, end):
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
    )


def _save(path, certificate):
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return str(path)
