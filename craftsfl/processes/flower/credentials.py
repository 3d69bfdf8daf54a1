"""Keys and certificates of a consortium, and SuperNode keys.

`make_authority` is for one machine alone; `make_consortium_authority` for one that hospitals reach.
"""

from __future__ import annotations

import datetime
import ipaddress
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from privacy.files import write_private, write_public

VALID_DAYS = 30
AUTHORITY_DAYS = 3650
SERVER_DAYS = 365
_LOOPBACK = ("localhost", "127.0.0.1")
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
    key = ec.generate_private_key(ec.SECP384R1())
    name = "craftsfl loopback authority"
    return _made(folder, key, name, _LOOPBACK, days=(VALID_DAYS, VALID_DAYS))


def make_consortium_authority(
    folder: Path, consortium: str, names: Sequence[str]
) -> ServerCredentials:
    """Make an authority of the consortium's own, and a certificate for all of `names`.

    `names`: DNS names and addresses; those of this machine are added. The authority's key is in
    `ca.key` (mode 0600), for the next certificate: it belongs on a disk that is not in the machine.
    """
    key = ec.generate_private_key(ec.SECP384R1())
    every = tuple(dict.fromkeys((*names, *_LOOPBACK)))
    days = AUTHORITY_DAYS, SERVER_DAYS
    _write_private(folder / "ca.key", _pem(key))
    return _made(folder, key, f"authority of {consortium}", every, days=days)


def make_server_key() -> ec.EllipticCurvePrivateKey:
    """A new key of a server's certificate."""
    return ec.generate_private_key(ec.SECP384R1())


def write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """Write a server's key as PEM, for its owner alone (mode 0600)."""
    _write_private(path, _pem(key))


def _made(
    folder: Path,
    authority_key: ec.EllipticCurvePrivateKey,
    issuer: str,
    names: Sequence[str],
    *,
    days: tuple[int, int],
) -> ServerCredentials:
    """Write an authority's certificate and a server's; `days`: how long each is valid."""
    folder.mkdir(parents=True, exist_ok=True)
    server_key = make_server_key()
    own = _name(issuer)
    authority = _certificate(own, own, authority_key, authority_key, days[0])
    server = _certificate(_name(names[0]), own, server_key, authority_key, days[1], names)
    files = ServerCredentials(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    write_public(files.authority, authority.public_bytes(serialization.Encoding.PEM))
    write_public(files.certificate, server.public_bytes(serialization.Encoding.PEM))
    write_key(files.key, server_key)
    return files


def server_certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    days: int,
    names: Sequence[str],
) -> x509.Certificate:
    """A server's certificate for `names`, DNS names and addresses, at least one."""
    return _certificate(subject, issuer, key, signer, days, names)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


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
    days: int,
    names: Sequence[str] = (),
) -> x509.Certificate:
    """A server's certificate for `names`, or without any the authority's own."""
    now, ca = datetime.datetime.now(datetime.UTC), not names
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=0 if ca else None), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_key_usage(ca), critical=True)
    )
    if names:
        alternative = x509.SubjectAlternativeName([_general(name) for name in names])
        builder = builder.add_extension(alternative, critical=False)
    return builder.sign(signer, hashes.SHA384())


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


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
