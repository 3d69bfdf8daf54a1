"""Keys and certificates of one consortium on one machine, and SuperNode keys.

A real consortium has a certificate from an authority of its own; `make_authority` is for loopback.
"""

from __future__ import annotations

import datetime
import ipaddress
import secrets
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from privacy.files import write_private, write_public

VALID_DAYS = 30
_CLOCK_SKEW = datetime.timedelta(minutes=5)


class ServerCredentials(NamedTuple):
    """The PEM files of a SuperLink; clients pin `authority`."""

    authority: Path
    certificate: Path
    key: Path


def make_authority(folder: Path) -> ServerCredentials:
    """Make a certificate authority and a certificate for localhost; discard the authority's key.

    So nobody can issue a second certificate under it, not even whoever ran this.
    """
    folder.mkdir(parents=True, exist_ok=True)
    authority_key = ec.generate_private_key(ec.SECP384R1())
    server_key = ec.generate_private_key(ec.SECP384R1())
    authority_name = _name("craftsfl loopback authority")
    authority = _certificate(authority_name, authority_name, authority_key, authority_key, ca=True)
    server = _certificate(_name("localhost"), authority_name, server_key, authority_key, ca=False)
    files = ServerCredentials(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    write_public(files.authority, authority.public_bytes(serialization.Encoding.PEM))
    write_public(files.certificate, server.public_bytes(serialization.Encoding.PEM))
    _write_private(
        files.key,
        server_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
    return files


def make_supernode_key(path: Path) -> Path:
    """Write a P-384 key pair in OpenSSH format (`path`, `path`.pub); returns the public file."""
    key = ec.generate_private_key(ec.SECP384R1())
    _write_private(
        path,
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        ),
    )
    public = path.with_suffix(".pub")
    write_public(
        public,
        key.public_key().public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        ),
    )
    return public


def make_secret(path: Path) -> Path:
    """Write the secret that a SuperExec presents to its SuperLink (32 random bytes as hex)."""
    _write_private(path, secrets.token_hex(32).encode("ascii"))
    return path


def _write_private(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_private(path, data)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    *,
    ca: bool,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=0 if ca else None), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_key_usage(ca), critical=True)
    )
    if not ca:
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(signer, hashes.SHA384())


def _key_usage(ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
