"""A consortium's next certificate: from the same authority, for the same names.

Gateways pin the authority, so they notice nothing, whichever of the server's two files is new. Its
key stays as it is where there is one; a lost one is made anew, and so is one that others may have.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

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
    make_server_key,
    server_certificate,
    write_key,
)
from privacy.error_ids import ErrorId
from privacy.errors import DeploymentError
from privacy.files import write_public

_NEW_KEY: Final = "craftsfl rounds renew consortium.toml --new-key makes a key of its own kind."
_NO_AUTHORITY: Final = (
    "Without it, every hospital needs a new authority, and so a new invitation: make one with "
    "craftsfl rounds init in another folder, copy its folder tls here, then craftsfl rounds add."
)


@dataclass(frozen=True, slots=True)
class ServerNames:
    """DNS names and addresses of a SuperLink: as hospitals reach it, and as its machine does."""

    hospitals: Sequence[str]
    machine: Sequence[str]


@dataclass(frozen=True, slots=True)
class Renewal:
    """What was made: a certificate, and a key where there was none that could stay."""

    certificate: x509.Certificate
    new_key: bool
    before: x509.Certificate | None  # None: it was lost


def renew_certificate(
    files: ServerCredentials,
    authority_key: Path,
    more: ServerNames,
    now: datetime.datetime,
    *,
    new_key: bool = False,
) -> Renewal:
    """Replace `files.certificate` by one that is valid from `now` on.

    `authority_key`: `ca.key` of `make_consortium_authority`; `more`: names that it has to have
    besides those that it had; where the old one is lost, at least one of hospitals'. A key that is
    missing or is none is replaced too, and any by `new_key`. Raises `DeploymentError`, and has then
    changed nothing.
    """
    authority, before = certificate_in(files.authority), _certificate_before(files)
    signer = _signer(authority_key, authority, files.authority)
    if now >= authority.not_valid_after_utc:
        raise _unusable(
            f"The authority {files.authority} itself expired on "
            f"{authority.not_valid_after_utc:%Y-%m-%d}.",
            "Every hospital needs a new one: make it with craftsfl rounds init in another folder, "
            "copy its folder tls here, and send a new invitation with craftsfl rounds add.",
        )
    names = tuple(dict.fromkeys((*_alternatives(before), *more.hospitals, *more.machine)))
    if before is None and not more.hospitals:
        raise _unusable(
            f"The certificate {files.certificate} is lost, and nothing says for which name it was.",
            "Give --name NAME, as the hospitals reach this machine.",
        )
    kept = None if new_key else _key_before(files.key)
    key = make_server_key() if kept is None else kept
    days = min(SERVER_DAYS, (authority.not_valid_after_utc - now).days)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0])])
    made = server_certificate(
        subject if before is None else before.subject, authority.subject, key, signer, days, names
    )
    _put_in_place(files, made, key if kept is None else None, names, now)
    return Renewal(made, kept is None, before)


def _put_in_place(
    files: ServerCredentials,
    made: x509.Certificate,
    key: ec.EllipticCurvePrivateKey | None,
    names: Sequence[str],
    now: datetime.datetime,
) -> None:
    """Write both beside the old ones, try them, and replace those.

    The key first: where the machine dies between the two, the certificate is for another key, and
    renewing once more keeps that key and mends it.
    """
    beside = files._replace(certificate=_beside(files.certificate))
    try:
        write_public(beside.certificate, made.public_bytes(serialization.Encoding.PEM))
        if key is not None:
            beside = beside._replace(key=_beside(files.key))
            write_key(beside.key, key)
        check_certificate(beside, names, now)
        if key is not None:
            beside.key.replace(files.key)
        beside.certificate.replace(files.certificate)
    except OSError as error:
        raise _unusable(
            f"The certificate {files.certificate} cannot be replaced: {error.strerror}.",
            "Run this as the user who owns it, and see that the disk has room.",
        ) from None
    finally:
        beside.certificate.unlink(missing_ok=True)
        if beside.key != files.key:
            beside.key.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.renewed")


def _certificate_before(files: ServerCredentials) -> x509.Certificate | None:
    """The certificate that is there, if it is one; another authority's is not for us to replace."""
    try:
        found = x509.load_pem_x509_certificates(files.certificate.read_bytes())[0]
    except (FileNotFoundError, ValueError):
        return None
    except OSError as error:
        raise _unusable(
            f"The certificate {files.certificate} cannot be read: {error.strerror}.",
            "Run this as the user who owns it.",
        ) from None
    try:
        found.verify_directly_issued_by(certificate_in(files.authority))
    except (ValueError, TypeError, InvalidSignature):
        raise _unusable(
            f"The certificate {files.certificate} was not made by the authority {files.authority}.",
            "Have whoever made it renew it, and put the new one in its place.",
        ) from None
    return found


def _key_before(path: Path) -> ec.EllipticCurvePrivateKey | None:
    """The server's key, None if it is lost: the file is not there, or holds no key."""
    try:
        serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (FileNotFoundError, ValueError):
        return None
    except (OSError, TypeError):
        pass  # `private_key_in` says what is the matter
    key = private_key_in(path, _NEW_KEY)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise _unusable(
            f"{path} is not a key as craftsfl rounds init makes it.",
            f"Have whoever made the certificate renew it; or {_NEW_KEY}",
        )
    return key


def _signer(
    path: Path, authority: x509.Certificate, authority_file: Path
) -> ec.EllipticCurvePrivateKey:
    if not path.exists():
        raise _unusable(
            f"The authority's key {path} is not there.",
            "Bring the disk to which you moved it, and name the file: craftsfl rounds renew "
            f"consortium.toml --authority-key FILE. {_NO_AUTHORITY}",
        )
    key = private_key_in(
        path,
        f"Name the file ca.key that craftsfl rounds init made. {_NO_AUTHORITY}",
        f"If others could have copied it, chmod 600 does not help: {_NO_AUTHORITY[0].lower()}"
        f"{_NO_AUTHORITY[1:]} Else chmod 600 it.",
    )
    if not isinstance(key, ec.EllipticCurvePrivateKey) or public_der(
        key.public_key()
    ) != public_der(authority.public_key()):
        raise _unusable(
            f"{path} is not the key of the authority {authority_file}.",
            f"Name the file ca.key that craftsfl rounds init made for this consortium. "
            f"{_NO_AUTHORITY}",
        )
    return key


def _alternatives(certificate: x509.Certificate | None) -> list[str]:
    """Every name that it has, as `server_certificate` takes them."""
    if certificate is None:
        return []
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    addresses = [str(one) for one in found.get_values_for_type(x509.IPAddress)]
    return [*found.get_values_for_type(x509.DNSName), *addresses]


def _unusable(message: str, hint: str) -> DeploymentError:
    return DeploymentError(message, hint, id=ErrorId.CERTIFICATE_UNUSABLE)
