"""How long a site's ledger takes to open, to read and to grow.

Rows: `what`, `value`, `unit`. An append is one signed record on disk: ledger, head file and the
marker next to the identity. It is timed alternately with a plain write and fsync of the same bytes
in the same folder (medians).
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.output import BenchRow, parser, print_rows
from privacy.identity import make_identity
from privacy.ledger import AttemptKey, Charge, SqliteLedger, read_ledger
from privacy.ledger.anchors import Anchors
from privacy.ledger.head import sign_head
from privacy.ledger.key import load_or_make_key, public_bytes
from privacy.ledger.marker import Marker
from privacy.ledger.records import Intent, Record, hash_of
from privacy.mechanisms.local import PoissonGaussian

CHARGE = Charge(b"\1" * 32, PoissonGaussian(0.5, 6.0, 0.1, 10), 1e-5)
_SITE = "north"
OPENINGS = 5
APPENDS = 201
FACTOR, EXTRA_MS = 1.2, 5.0  # an append may take this many plain writes, plus this many ms


@dataclass
class _Growth:
    """Appends to a ledger, one after the other: intent, charge, intent, charge, ..."""

    ledger: SqliteLedger
    records: int = 2  # with genesis and binding
    seconds: list[float] = field(default_factory=list)

    def append(self) -> None:
        """One more record."""
        key = AttemptKey(CHARGE.study_digest, 1, 1, self.records // 2)
        start = time.perf_counter()
        if self.records % 2 == 0:
            self.ledger.intent(key, CHARGE)
        else:
            self.ledger.commit(key)
        self.seconds.append(time.perf_counter() - start)
        self.records += 1


def measure(folder: Path, records: int) -> list[BenchRow]:
    """Fill a ledger in `folder` with `records` records, then time it."""
    path, key = folder / "ledger.sqlite", load_or_make_key(folder / "ledger.key")
    identity = make_identity(folder / "site.key")
    anchors = Anchors(identity, marks=(Marker(folder / "site.key").heads,))
    with SqliteLedger(path, key, site=_SITE, anchors=anchors) as ledger:
        growth = _Growth(ledger)
        while growth.records < records:
            growth.append()
    opened = [_seconds_to_open(path, key, anchors) for _ in range(OPENINGS)]
    read = [_seconds_to_read(path) for _ in range(OPENINGS)]
    with SqliteLedger(path, key, site=_SITE, anchors=anchors) as ledger:
        growth = _Growth(ledger, records)
        plain = [_append_and_write(growth, folder / "plain", key) for _ in range(APPENDS)]
    append_ms = 1e3 * statistics.median(growth.seconds)
    plain_ms = 1e3 * statistics.median(plain)
    values = {
        f"open and verify {records} records": (statistics.median(opened), "s"),
        f"read beside the agent and verify {records} records": (statistics.median(read), "s"),
        "append": (append_ms, "ms"),
        "plain fsynced write of the same bytes": (plain_ms, "ms"),
        f"{FACTOR} x plain + {EXTRA_MS:g} ms": (FACTOR * plain_ms + EXTRA_MS, "ms"),
        "file size per record": (path.stat().st_size / records, "bytes"),
    }
    return [{"what": what, "value": value, "unit": unit} for what, (value, unit) in values.items()]


def _seconds_to_open(path: Path, key: Ed25519PrivateKey, anchors: Anchors) -> float:
    start = time.perf_counter()
    with SqliteLedger(path, key, site=_SITE, anchors=anchors):
        return time.perf_counter() - start


def _seconds_to_read(path: Path) -> float:
    start = time.perf_counter()
    read_ledger(path)
    return time.perf_counter() - start


def _append_and_write(growth: _Growth, file: Path, key: Ed25519PrivateKey) -> float:
    """Append a record; then the seconds of a plain durable write of as many bytes."""
    growth.append()
    record = Record(
        bytes(16), 1, bytes(32), 1, Intent(AttemptKey(CHARGE.study_digest, 1, 1, 1), CHARGE)
    )
    body = record.encode()
    data = body + sign_head(key, record.ledger, record.sequence, hash_of(body)) + public_bytes(key)
    start = time.perf_counter()
    with file.open("ab", buffering=0) as stream:
        stream.write(data)
        os.fsync(stream.fileno())
    return time.perf_counter() - start


def main() -> None:
    """`python -m bench.ledger [--json] [--records N] [--folder FOLDER]`."""
    arguments = parser("ledger", __doc__ or "")
    arguments.add_argument("--records", type=int, default=10_000)
    arguments.add_argument("--folder", type=Path, help="on the disk to be measured")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        rows = measure(Path(folder), options.records)
    print_rows("ledger", rows, as_json=options.json)


if __name__ == "__main__":
    main()
