"""Certificates are tried out before anything starts, and what is wrong with them is said."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from pydantic import ValidationError

from tests.fakes.certificates import Authority
from voxray.base.errors import ConfigError
from voxray.base.settings import load_settings
from voxray.base.tls import TlsSettings, load_certificates


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


def test_without_files_there_is_no_tls():
    assert load_certificates(TlsSettings()) is None


def test_files_that_fit_are_read(authority):
    certificates = load_certificates(authority.sign())
    assert b"BEGIN CERTIFICATE" in certificates.certificate
    assert b"PRIVATE KEY" in certificates.key
    assert certificates.server_name == "voxray"
    assert "PRIVATE KEY" not in repr(certificates)


def test_a_part_of_the_files_is_refused(authority):
    with pytest.raises(ValidationError, match="missing: key, ca"):
        TlsSettings(cert=authority.file)


def test_the_environment_names_them(authority):
    files = authority.sign()
    settings = load_settings(
        {
            "VOXRAY_INFERENCE__TLS": files.model_dump_json(),
        }
    )
    assert settings.inference.tls == files


@pytest.mark.parametrize("name", ["cert", "key", "ca"])
def test_a_missing_file_is_named(authority, tmp_path, name):
    missing = str(tmp_path / "nowhere.pem")
    files = authority.sign().model_copy(update={name: missing})
    with pytest.raises(ConfigError, match=f"tls.{name}: .*nowhere.pem can't be read") as caught:
        load_certificates(files)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", ["cert", "key", "ca"])
def test_a_file_that_is_no_pem_is_refused(authority, tmp_path, name):
    (tmp_path / "bad.pem").write_text("no certificate")
    files = authority.sign().model_copy(update={name: str(tmp_path / "bad.pem")})
    with pytest.raises(ConfigError, match=r"bad\.pem"):
        load_certificates(files)


def test_the_key_of_another_certificate_is_refused(authority):
    files, other = authority.sign(), authority.sign(file="other")
    with pytest.raises(ConfigError, match="no certificate with its key"):
        load_certificates(files.model_copy(update={"key": other.key}))


def test_a_key_with_a_password_is_refused_without_a_prompt(authority, tmp_path):
    files = authority.sign()
    key = serialization.load_pem_private_key(Path(files.key).read_bytes(), None)
    (tmp_path / "locked.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(ConfigError, match="the key asks for a password"):
        load_certificates(files.model_copy(update={"key": str(tmp_path / "locked.key")}))


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (lambda ca, folder: ca.sign(expired=True), "expired"),
        (lambda ca, folder: ca.sign("other-app"), "Hostname mismatch"),
        (
            lambda ca, folder: ca.sign().model_copy(update={"ca": Authority(folder, "x").file}),
            "unable to get local issuer|self-signed|verify",
        ),
    ],
)
def test_a_certificate_that_the_other_end_would_refuse_is_refused_here(
    authority, tmp_path, wrong, reason
):
    with pytest.raises(ConfigError, match=reason):
        load_certificates(wrong(authority, tmp_path))
