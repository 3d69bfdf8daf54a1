"""A consortium's next certificate: from the same authority, for the same key and the same names.

Gateways pin the authority, so they notice nothing. The server's key stays as it is: the only thing
that changes is one file, which is replaced as a whole.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from craftsfl.processes.flower.certificates import (
    certificate_in,
    check_certificate,
    private_key_in,
    public_der,
)
from craftsfl.processes.flower.credentials import (
    SERVER_DAYS,
    ServerCredentials,
    server_certificate,
)
from privacy.error_ids import ErrorId
from privacy.errors import DeploymentError
from privacy.files import write_public


def renew_certificate(
    files: ServerCredentials, authority_key: Path, more: Sequence[str], now: datetime.datetime
) -> x509.Certificate:
    """Replace `files.certificate` by one that is valid from `now` on; returns it.

    `authority_key`: `ca.key` of `make_consortium_authority`; `more`: names that it has to have
    besides those that it had. Raises `DeploymentError`, and has then changed nothing.
    """
    authority, before = certificate_in(files.authority), certificate_in(files.certificate)
    try:
        before.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        raise _unusable(
            f"The certificate {files.certificate} was not made by the authority {files.authority}.",
            "Have whoever made it renew it, and put the new one in its place.",
        ) from None
    signer = _signer(authority_key, authority, files.authority)
    key = private_key_in(files.key)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise _unusable(
            f"{files.key} is not a key as craftsfl rounds init makes it.",
            "Have whoever made the certificate renew it.",
        )
    if now >= authority.not_valid_after_utc:
        raise _unusable(
            f"The authority {files.authority} itself expired on "
            f"{authority.not_valid_after_utc:%Y-%m-%d}.",
            "Every hospital needs a new one: make it with craftsfl rounds init in another folder, "
            "copy its folder tls here, and send a new invitation with craftsfl rounds add.",
        )
    days = min(SERVER_DAYS, (authority.not_valid_after_utc - now).days)
    names = tuple(dict.fromkeys((*_alternatives(before), *more)))
    made = server_certificate(before.subject, authority.subject, key, signer, days, names)
    text = made.public_bytes(serialization.Encoding.PEM)
    beside = files.certificate.with_name(f"{files.certificate.name}.renewed")
    try:
        write_public(beside, text)
        check_certificate(files._replace(certificate=beside), ["127.0.0.1", *more], now)
        beside.replace(files.certificate)
    except OSError as error:
        raise _unusable(
            f"The certificate {files.certificate} cannot be replaced: {error.strerror}.",
            "Run this as the user who owns it, and see that the disk has room.",
        ) from None
    finally:
        beside.unlink(missing_ok=True)
    return made


def _signer(
    path: Path, authority: x509.Certificate, authority_file: Path
) -> ec.EllipticCurvePrivateKey:
    if not path.exists():
        raise _unusable(
            f"The authority's key {path} is not there.",
            "Bring the disk to which you moved it, and name the file: craftsfl rounds renew "
            "consortium.toml --authority-key FILE",
        )
    key = private_key_in(path)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or public_der(
        key.public_key()
    ) != public_der(authority.public_key()):
        raise _unusable(
            f"{path} is not the key of the authority {authority_file}.",
            "Name the file ca.key that craftsfl rounds init made for this consortium. Without it, "
            "every hospital needs a new authority, and so a new invitation.",
        )
    return key


def _alternatives(certificate: x509.Certificate) -> list[str]:
    """Every name that it has, as `server_certificate` takes them."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    addresses = [str(one) for one in found.get_values_for_type(x509.IPAddress)]
    return [*found.get_values_for_type(x509.DNSName), *addresses]


def _unusable(message: str, hint: str) -> DeploymentError:
    return DeploymentError(message, hint, id=ErrorId.CERTIFICATE_UNUSABLE)
