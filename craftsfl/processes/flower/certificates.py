"""Whether a SuperLink's certificate will do, for those who have to trust it, before it serves."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import stat
from collections.abc import Collection
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes

from craftsfl.processes.flower.credentials import ServerCredentials
from privacy.error_ids import ErrorId
from privacy.errors import DeploymentError

WARN_DAYS: Final = 14
_GUIDE: Final = "docs/operator.md, The certificate, says what it needs and how to make one."
_REMAKE: Final = (
    "One that craftsfl rounds init made: craftsfl rounds renew consortium.toml makes another, by "
    f"the same authority. {_GUIDE}"
)
_RESTORE: Final = (
    "Every hospital has a copy, ca.pem beside its site.toml, and the invitation holds it: craftsfl "
    f"rounds renew consortium.toml puts it back from there. {_GUIDE}"
)
_COPIED: Final = (
    "If others could have copied it: craftsfl rounds renew consortium.toml --new-key. Else chmod "
    "600 it."
)
_RENEW: Final = "Renew it (craftsfl rounds renew consortium.toml), then restart rounds serve."


def check_certificate(
    files: ServerCredentials, names: Collection[str], now: datetime.datetime
) -> None:
    """Raise `DeploymentError` if clients that pin `files.authority` would refuse the server.

    `names`: DNS names and addresses by which processes of ours reach it. The last word is
    OpenSSL's: client and server shake hands in memory.
    """
    certificate, key = certificate_in(files.certificate, _REMAKE), private_key_in(files.key)
    certificate_in(files.authority, _RESTORE)
    if public_der(key.public_key()) != public_der(certificate.public_key()):
        raise _unusable(
            f"The key {files.key} is not the one of the certificate {files.certificate}.",
            f"Put the key there with which the certificate was asked for. {_REMAKE}",
        )
    if now < certificate.not_valid_before_utc:
        raise _unusable(
            f"The certificate {files.certificate} is valid from "
            f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on only.",
            "Check this machine's clock.",
        )
    if now >= certificate.not_valid_after_utc:
        raise _unusable(
            f"The certificate {files.certificate} expired on "
            f"{certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC; hospitals would refuse it.",
            f"By the same authority: craftsfl rounds renew consortium.toml. {_GUIDE}",
        )
    for name in names:
        if not _names(certificate, name):
            raise _unusable(
                f"The certificate {files.certificate} does not name {name}, by which processes of "
                "this machine reach the SuperLink.",
                f"It needs the subject alternative name {_alternative(name)}. {_GUIDE}",
            )
        _shake_hands(files, name)


def expires_soon(path: Path, now: datetime.datetime) -> str | None:
    """A sentence if the certificate has expired or does within `WARN_DAYS`, else None."""
    left = certificate_in(path).not_valid_after_utc - now
    if left > datetime.timedelta(days=WARN_DAYS):
        return None
    if left <= datetime.timedelta(0):
        words = "has EXPIRED: hospitals that reconnect are turned away."
        return f"The certificate {path} {words} {_RENEW}"
    when = f"in {left.days} days" if left.days else "today or tomorrow"
    return f"The certificate {path} expires {when}. {_RENEW}"


def _shake_hands(files: ServerCredentials, name: str) -> None:
    """Let a client of Flower's kind meet the server; raises `DeploymentError`."""
    try:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(files.certificate, files.key)
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.load_verify_locations(files.authority)
    except (ssl.SSLError, OSError) as error:
        raise _unusable(f"OpenSSL cannot use the certificate's files: {error}.", _GUIDE) from None
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(4):  # messages go back and forth
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                raise _unusable(
                    f"The certificate {files.certificate} does not hold under the authority "
                    f"{files.authority}: {error.verify_message}.",
                    "Give the authority's own certificate as `authority`, and intermediate ones "
                    f"below the server's in `certificate`. {_GUIDE}",
                ) from None
            except ssl.SSLError as error:
                raise _unusable(f"The SuperLink's TLS does not work: {error}.", _GUIDE) from None


def certificate_in(path: Path, hint: str = _GUIDE) -> x509.Certificate:
    """The first certificate of a PEM file; raises `DeploymentError`, with `hint`."""
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())[0]
    except OSError as error:
        raise _unusable(f"The certificate {path} cannot be read: {error.strerror}.", hint) from None
    except ValueError:
        raise _unusable(f"{path} is not a certificate in PEM.", hint) from None


def private_key_in(path: Path, hint: str = _REMAKE, copied: str = _COPIED) -> PrivateKeyTypes:
    """The private key of a PEM file that is its owner's alone.

    Raises `DeploymentError`, with `hint`, or with `copied` where others can read it.
    """
    try:
        mode = path.stat().st_mode
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise _unusable(f"The key {path} cannot be read: {error.strerror}.", hint) from None
    except TypeError:
        raise _unusable(
            f"The key {path} is locked with a passphrase.",
            f"openssl pkey -in {path} -out server.key, then chmod 600 it.",
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise _unusable(f"{path} is not a private key in PEM.", hint) from None
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise _unusable(f"Others can read or change the key {path}.", copied)
    return key


def public_der(key: PublicKeyTypes) -> bytes:
    """One form of a public key, to compare."""
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _names(certificate: x509.Certificate, name: str) -> bool:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    address = _address(name)
    if address is not None:
        return address in found.get_values_for_type(x509.IPAddress)
    parent = name.partition(".")[2]
    known = {one.lower() for one in found.get_values_for_type(x509.DNSName)}
    return name.lower() in known or (bool(parent) and f"*.{parent.lower()}" in known)


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _alternative(name: str) -> str:
    return f"{'DNS' if _address(name) is None else 'IP'}:{name}"


def _unusable(message: str, hint: str) -> DeploymentError:
    return DeploymentError(message, hint, id=ErrorId.CERTIFICATE_UNUSABLE)
