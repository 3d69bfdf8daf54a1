"""A consortium one of whose hospitals stands on another network, and certificates of any life.

The network is a namespace of this kernel with a cable (a veth pair) to this machine. Only root may
make one.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import tomli_w
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bench.plane import ROOT_FOLDER, Plane
from bench.plane_site import SITE_FILE
from craftsfl.processes.environment import environment
from craftsfl.processes.flower.credentials import ServerCredentials
from craftsfl.processes.supervisor import Command
from server.events import RunWaiting

FAR_SITE: Final = "west"
_LIFETIME: Final = 30 * 86_400.0  # seconds
_SECONDS: Final = datetime.timedelta(seconds=1)
OPERATOR: Final = "operator"  # whose desk is `rounds serve`, and what a run waits for
_DESK: Final = " desk: "


class NoCableError(Exception):
    """This machine makes no network namespace."""


@dataclass(frozen=True)
class Cable:
    """A network namespace, reached at `there` over a cable whose end here is `here`."""

    name: str
    here: str
    there: str

    def cut(self) -> None:
        """Nothing passes any more, and nobody is told: packets vanish."""
        _ip("link", "set", self._end, "down")

    def mend(self) -> None:
        """What is sent arrives again."""
        _ip("link", "set", self._end, "up")

    @property
    def _end(self) -> str:
        return f"{self.name}0"

    @property
    def _far_end(self) -> str:
        return f"{self.name}1"

    def lay(self) -> None:
        """Make the namespace and both ends."""
        _ip("netns", "add", self.name)
        _ip("link", "add", self._end, "type", "veth", "peer", "name", self._far_end)
        _ip("link", "set", self._far_end, "netns", self.name)
        _ip("addr", "add", f"{self.here}/30", "dev", self._end)
        _ip("link", "set", self._end, "up")
        for words in (
            ("addr", "add", f"{self.there}/30", "dev", self._far_end),
            ("link", "set", self._far_end, "up"),
            ("link", "set", "lo", "up"),
        ):
            _ip("-n", self.name, *words)

    def remove(self) -> None:
        """The namespace, and with it the cable."""
        subprocess.run(("ip", "netns", "del", self.name), check=False)
        subprocess.run(("ip", "link", "del", self._end), check=False, stderr=subprocess.DEVNULL)


@contextmanager
def cable() -> Iterator[Cable]:
    """A cable to a namespace of its own; raises `NoCableError` where none can be made."""
    if os.geteuid() != 0:
        raise NoCableError("only root may make a network namespace")
    number = os.getpid() % 60
    made = Cable(f"cfl{os.getpid()}", f"10.199.{number}.1", f"10.199.{number}.2")
    try:
        made.lay()
    except (OSError, subprocess.CalledProcessError) as error:
        made.remove()
        raise NoCableError(f"this machine makes no network namespace: {error}") from None
    try:
        yield made
    finally:
        made.remove()


class Authority:
    """Signs certificates for a SuperLink at localhost and at `addresses`."""

    def __init__(self, *addresses: str) -> None:
        self._key = ec.generate_private_key(ec.SECP384R1())
        self._addresses = addresses

    def sign(self, folder: Path, lifetime: float) -> ServerCredentials:
        """Write the three files; the certificate is valid for `lifetime` seconds from now."""
        files = ServerCredentials(folder / "ca.pem", folder / "server.pem", folder / "server.key")
        folder.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP384R1())
        now = datetime.datetime.now(datetime.UTC)
        own = self._certificate("an authority", self._key, now + 3650 * 86_400 * _SECONDS, ca=True)
        made = self._certificate("localhost", key, now + lifetime * _SECONDS, ca=False)
        files.authority.write_bytes(own.public_bytes(serialization.Encoding.PEM))
        files.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        files.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        files.key.chmod(0o600)
        return files

    def _certificate(
        self, name: str, key: ec.EllipticCurvePrivateKey, until: datetime.datetime, *, ca: bool
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(_named(name))
            .issuer_name(_named("an authority"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(datetime.datetime.now(datetime.UTC) - 3600 * _SECONDS)
            .not_valid_after(until)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if not ca:
            found = [ipaddress.ip_address(address) for address in ("127.0.0.1", *self._addresses)]
            names = [x509.DNSName("localhost"), *(x509.IPAddress(address) for address in found)]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())


@dataclass
class HarmedPlane(Plane):
    """Its certificate is signed by `authority`; `FAR_SITE` is harder to reach than the others.

    It stands at the `far` end of a cable; its clock follows the file `clock` (`bench.moved_clock`).
    """

    authority: Authority | None = None
    far: Cable | None = None
    clock: Path | None = None

    @property
    def tls(self) -> Path:
        """The folder of the coordinator's certificate."""
        return self.consortium.parent / "tls"

    def desk(self, name: str) -> list[str]:
        """What a site's desk was told by its gateway, or what the operator's was told."""
        if name == OPERATOR:
            waits = (logged.event for logged in self.all_events())
            reasons = (event.reason for event in waits if isinstance(event, RunWaiting))
            return [*self._lines("rounds serve"), *reasons]
        lines = self._lines(f"{name}-gateway")
        return [line.partition(_DESK)[2] for line in lines if _DESK in line]

    def _lines(self, log: str) -> list[str]:
        file = self.folder / "logs" / f"{log}.log"
        return file.read_text("utf-8", "replace").splitlines() if file.exists() else []

    def _write(self) -> None:
        super()._write()
        file = self.folder / FAR_SITE / SITE_FILE
        facts = json.loads(file.read_text("utf-8"))
        if self.far is not None:
            facts["superlink"] = f"{self.far.here}:{self.port}"
        if self.clock is not None:
            facts["clock"] = str(self.clock)
        file.write_text(json.dumps(facts), "utf-8")

    def _write_coordinator(self) -> None:
        super()._write_coordinator()
        if self.authority is not None:
            self.authority.sign(self.tls, _LIFETIME)
        if self.far is not None:
            values = tomllib.loads(self.consortium.read_text("utf-8"))
            values["superlink"]["host"] = "0.0.0.0"
            self.consortium.write_text(tomli_w.dumps(values), "utf-8")

    def _run(self, name: str, *words: str) -> None:
        if self.far is None or name != f"{FAR_SITE} site":
            super()._run(name, *words)
            return
        env = environment(
            self.folder / "home", {"PYTHONPATH": str(ROOT_FOLDER), "OMP_NUM_THREADS": "1"}
        )
        argv = ("ip", "netns", "exec", self.far.name, sys.executable, *words)
        self.supervisor.start(Command(name, argv, env, self.folder / "logs" / f"{name}.log"))


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _ip(*words: str) -> None:
    subprocess.run(("ip", *words), check=True, capture_output=True)
