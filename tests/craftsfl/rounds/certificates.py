"""A certificate of the coordinator with one thing wrong."""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from craftsfl.processes.flower import credentials

DAY = datetime.timedelta(days=1)


def certify(
    coordinator: Path,
    *,
    start: datetime.timedelta = -DAY,
    end: datetime.timedelta = 100 * DAY,
    names: tuple[x509.GeneralName, ...] | None = None,
) -> ec.EllipticCurvePrivateKey:
    """Put a certificate of a new authority there; returns the authority's key."""
    now = datetime.datetime.now(datetime.UTC)
    own, server = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())
    tls, issuer = coordinator / "tls", credentials._name("authority")
    alternative = x509.SubjectAlternativeName(names or (x509.IPAddress(LOOPBACK),))
    constraints = x509.BasicConstraints(ca=True, path_length=None)
    for path, subject, key, extension in [
        (tls / "ca.pem", issuer, own, constraints),
        (tls / "server.pem", credentials._name("server"), server, alternative),
    ]:
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer)
        builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now + (start if key is server else -DAY))
        builder = builder.not_valid_after(now + (end if key is server else 999 * DAY))
        made = builder.add_extension(extension, critical=False).sign(own, hashes.SHA384())
        path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    write_key(tls / "server.key", server)
    return own


def write_key(path: Path, key: ec.EllipticCurvePrivateKey, passphrase: bytes = b"") -> None:
    locked = serialization.BestAvailableEncryption(passphrase) if passphrase else None
    form = serialization.PrivateFormat.PKCS8
    encryption = locked or serialization.NoEncryption()
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, encryption))


LOOPBACK = credentials.ipaddress.ip_address("127.0.0.1")
