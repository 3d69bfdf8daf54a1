"""The way to the coordinator: address, certificate, clock. Tried by a process of its own.

That process is told an address and a file of authorities, and nothing else; the one that reads
patients' data never opens the network. What it prints is one line of JSON, from a closed set.

    python -P -m craftsfl.site.check.connection HOST:PORT AUTHORITIES
"""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from email.utils import mktime_tz, parsedate_tz
from pathlib import Path
from typing import TYPE_CHECKING, Final

from client.gateway.desk import Names, trouble_words
from client.gateway.trouble import FleetTrouble, Trouble
from client.settings import GatewaySettings
from craftsfl.site.check.finding import Checked, CheckId, Fact, Finding
from privacy.errors import ConfigError

if TYPE_CHECKING:
    from httpcore import NetworkStream

_SECONDS: Final = 5.0  # for each of connecting, asking and waiting
_PATIENCE: Final = 20.0  # for the whole process
_LONGEST: Final = 2000  # characters of its answer
_DAYS: Final = 30  # before its end a certificate is worth a word
_DAY: Final = 86_400.0
_AHEAD, _BEHIND = 4.0, -300.0  # seconds beyond which Flower refuses this machine's signatures
_CERTIFICATE: Final = frozenset(
    {
        Trouble.CERTIFICATE_EXPIRED,
        Trouble.CERTIFICATE_EARLY,
        Trouble.CERTIFICATE_NAME,
        Trouble.CERTIFICATE_UNKNOWN,
        Trouble.TLS,
    }
)


@dataclass(frozen=True, slots=True)
class Reached:
    """What came of it. `trouble` is the name of a `Trouble`, "" for none.

    `ahead` in seconds: by how much this machine's clock is ahead, give or take `doubt`.
    """

    trouble: str = ""
    detail: str = ""
    ends: float | None = None  # of the certificate, Unix seconds
    ahead: float | None = None
    doubt: float = 0.0


def check_connection(gateway: GatewaySettings) -> Iterator[Checked]:
    """Findings about the way to the coordinator of `gateway`."""
    yield from judged_way(reach(gateway), gateway, time.time())


def reach(gateway: GatewaySettings) -> Reached:
    """Have another process try the way; never raises."""
    argv = [sys.executable, "-P", "-m", __name__, gateway.superlink]
    argv.append("" if gateway.root_certificates is None else str(gateway.root_certificates))
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_PATIENCE,
            check=False,
        )
        found = json.loads(done.stdout[:_LONGEST])
        return Reached(**found)
    except subprocess.TimeoutExpired:
        return Reached(Trouble.NO_ANSWER.name)
    except (OSError, ValueError, TypeError):
        return Reached(Trouble.UNEXPECTED.name, "the trial ended without a word")


def judged_way(found: Reached, gateway: GatewaySettings, now: float) -> Iterator[Checked]:
    """What the trial means at `now` (Unix seconds)."""
    if found.trouble:
        yield _in_trouble(found, gateway)
        return
    if found.ends is not None:
        days = (found.ends - now) / _DAY
        words = f"The certificate of {gateway.superlink} ends in {days:.0f} days."
        yield (
            Finding(CheckId.CERTIFICATE, words)
            if days < _DAYS
            else Fact("certificate", f"{days:.0f} days left")
        )
    yield from _clock(found)


def _in_trouble(found: Reached, gateway: GatewaySettings) -> Finding:
    trouble = Trouble.__members__.get(found.trouble, Trouble.UNEXPECTED)
    names = Names(gateway.superlink, "", str(gateway.key.with_suffix(".pub")))
    words = trouble_words(FleetTrouble(trouble, found.detail), names)
    id = CheckId.CERTIFICATE if trouble in _CERTIFICATE else CheckId.COORDINATOR
    first, _, cure = words.partition(". ")
    return Finding(id, f"{first}." if cure else first, cure)


def _clock(found: Reached) -> Iterator[Checked]:
    if found.ahead is None:
        return
    surely = max(0.0, abs(found.ahead) - found.doubt)
    if found.ahead > 0 and surely >= _AHEAD:
        yield Finding(CheckId.CLOCK, f"This machine's clock is {surely:.0f} s ahead.")
    elif found.ahead < 0 and -surely <= _BEHIND:
        yield Finding(CheckId.CLOCK, f"This machine's clock is {surely:.0f} s behind.")
    else:
        yield Fact("clock", f"as the coordinator's, within {abs(found.ahead) + found.doubt:.0f} s")


def _try(superlink: str, authorities: str) -> Reached:
    """In the process of its own."""
    import httpx

    from client.gateway.options import load_tls
    from client.gateway.reach import unreachable

    try:
        tls = load_tls(Path(authorities) if authorities else None)
    except ConfigError as error:
        return Reached(Trouble.TLS.name, error.message)
    try:
        with httpx.Client(verify=tls, timeout=_SECONDS, trust_env=True) as client:
            sent = time.time()
            with client.stream("GET", f"https://{superlink}/") as answer:
                received = time.time()
                ends = _ends(answer.extensions.get("network_stream"))
                date = parsedate_tz(answer.headers.get("date", ""))
    except httpx.TransportError as error:
        trouble = unreachable(error)
        return Reached(trouble.trouble.name, trouble.detail)
    if date is None:
        return Reached(ends=ends)
    ahead = (sent + received) / 2 - (mktime_tz(date) + 0.5)
    return Reached(ends=ends, ahead=ahead, doubt=(received - sent) / 2 + 0.5)


def _ends(stream: NetworkStream | None) -> float | None:
    """When the certificate of the connection ends."""
    tls = None if stream is None else stream.get_extra_info("ssl_object")
    known = None if tls is None else tls.getpeercert()
    ends = known.get("notAfter") if known else None
    return None if ends is None else float(ssl.cert_time_to_seconds(ends))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(_try(*sys.argv[1:3]))))
