"""The gateway's command line: the files and addresses it needs, and nothing else of the hospital's.

It reads neither site.toml nor policy.toml: they name what it has no business with.
"""

from __future__ import annotations

import argparse
import ssl
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from client.gateway.pace import Pace
from privacy.errors import ConfigError

_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """What the command line says."""

    superlink: str  # host:port
    authority: Path | None  # None: the system's own
    key: Path
    socket: Path
    home: Path
    pace: Pace
    largest: int  # bytes of a message
    private: tuple[Path, ...] = ()  # the agent's, which has to be out of reach
    one_user: bool = False  # this user is the agent's: the process has to be shut in, or end


def parse_options(arguments: Sequence[str]) -> GatewayOptions:
    """The options in `arguments`; ends the process with argparse's words if they are wrong."""
    parser = argparse.ArgumentParser(prog="python -P -m client.gateway", description=__doc__)
    parser.add_argument("--superlink", required=True, help="host:port of the Fleet API")
    parser.add_argument("--root-certificates", type=Path, help="PEM; otherwise the system's own")
    parser.add_argument("--key", type=Path, required=True, help="private key, OpenSSH, NIST curve")
    parser.add_argument("--socket", type=Path, required=True, help="the agent's Unix socket")
    parser.add_argument("--home", type=Path, required=True, help="folder for what it remembers")
    parser.add_argument("--fastest", type=float, default=Pace().fastest, help="seconds, of a look")
    parser.add_argument("--slowest", type=float, default=Pace().slowest, help="seconds, of a look")
    parser.add_argument("--largest", type=int, default=256, help="MiB of a message")
    parser.add_argument("--private", type=Path, action="append", help="must be out of reach")
    parser.add_argument("--one-user", action="store_true", help="end unless it is really shut in")
    found = parser.parse_args(arguments)
    return GatewayOptions(
        superlink=found.superlink,
        authority=found.root_certificates,
        key=found.key,
        socket=found.socket,
        home=found.home,
        pace=Pace(found.fastest, found.slowest),
        largest=found.largest * _MEBIBYTE,
        private=tuple(found.private or ()),
        one_user=found.one_user,
    )


def load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """The private key that the operator has registered. Raises `ConfigError`."""
    try:
        key = load_ssh_private_key(path.read_bytes(), None)
    except OSError as error:
        raise ConfigError(
            f"The gateway's key {path} cannot be read: {error.strerror}.",
            "Check key in the [gateway] table of site.toml, and that its user may read it.",
        ) from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name not in _CURVES:
        raise ConfigError(
            f"{path} is not a private key of a NIST curve in OpenSSH format, without a passphrase.",
            "Make one: craftsfl site init.",
        )
    return key


def load_tls(authority: Path | None) -> ssl.SSLContext:
    """TLS that trusts `authority` alone, or the system's own. Raises `ConfigError`."""
    try:
        return ssl.create_default_context(cafile=str(authority) if authority else None)
    except (OSError, ssl.SSLError):
        raise ConfigError(
            f"The authority's certificate {authority} cannot be read.",
            "Check root_certificates in the [gateway] table of site.toml: a PEM file that the "
            "gateway's user may read.",
        ) from None


def first_hop(superlink: str) -> tuple[str, int]:
    """Host and port of the one TCP connection: the SuperLink's, or those of the proxy before it."""
    host, _, port = superlink.rpartition(":")
    proxies = urllib.request.getproxies()
    proxy = proxies.get("https") or proxies.get("all")
    if not proxy or urllib.request.proxy_bypass(host):
        return host, int(port)
    found = urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    return found.hostname or host, found.port or (443 if found.scheme == "https" else 80)
