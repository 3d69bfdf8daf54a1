"""Whether the authority in an invitation will do on this machine, by this machine's clock."""

from __future__ import annotations

import datetime

from cryptography import x509

from privacy.error_ids import ErrorId
from privacy.errors import ConfigError


def check_authority(pem: str, now: datetime.datetime) -> None:
    """Raise `ConfigError` for what is no certificate, or not valid now; "" is a public one's."""
    if not pem:
        return
    try:
        found = x509.load_pem_x509_certificates(pem.encode("utf-8"))[0]
    except ValueError:
        raise _unusable(
            "The invitation's authority is not a certificate in PEM.",
            "Ask the operator for the invitation again: craftsfl rounds add makes it.",
        ) from None
    if now < found.not_valid_before_utc:
        raise _unusable(
            "The invitation's authority is valid from "
            f"{found.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on only.",
            "Check this machine's clock; Flower refuses signatures that are seconds off, too.",
        )
    if now >= found.not_valid_after_utc:
        raise _unusable(
            f"The invitation's authority expired on {found.not_valid_after_utc:%Y-%m-%d} UTC.",
            "Check this machine's clock. If it is right, ask the operator for a new invitation.",
        )


def _unusable(message: str, hint: str) -> ConfigError:
    return ConfigError(message, hint, id=ErrorId.CERTIFICATE_UNUSABLE)
