"""Rows "append" and "proof": what a log of 100,000 entries costs its coordinator.

An entry is as long as what one site writes at one step; a batch is what a step of 100 sites makes,
and is on disk, with its hashes and a signed checkpoint, when it counts. Times are processor time
and, for what waits for the disk, wall time too.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.output import BenchRow
from privacy.identity import Identity
from privacy.log.checkpoints import TreeHead, log_origin, signed_checkpoint
from privacy.log.merkle import check_inclusion, leaf_hash
from privacy.log.store import LogStore

_ENTRIES: Final = 100_000
_BATCH: Final = 100
_BYTES: Final = 900
_PROOFS: Final = 2_000


def measure(quick: bool = False) -> Iterator[BenchRow]:
    """The rows "append" and "proof"."""
    entries = _ENTRIES // 50 if quick else _ENTRIES
    draw = random.Random(1)
    identity = Identity.from_seed(bytes(32))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.db"
        with LogStore(path) as store:
            yield _appended(store, identity, draw, entries)
            yield _proven(store, draw)
        began = time.perf_counter()
        with LogStore(path) as store:
            seconds = time.perf_counter() - began
            yield {
                "what": "append",
                "part": "open and verify",
                "entries": store.size,
                "seconds": seconds,
                "mib": path.stat().st_size / 2**20,
            }


def _appended(store: LogStore, identity: Identity, draw: random.Random, entries: int) -> BenchRow:
    origin = log_origin("bench", identity.public)
    slowest, wall, cpu = 0.0, time.perf_counter(), time.process_time()
    for _ in range(entries // _BATCH):
        batch = [draw.randbytes(_BYTES) for _ in range(_BATCH)]
        began = time.perf_counter()
        size = store.append(batch)
        head = TreeHead(origin, size, store.root(size))
        store.keep(head, signed_checkpoint(head, identity))
        slowest = max(slowest, time.perf_counter() - began)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {
        "what": "append",
        "part": f"batches of {_BATCH}, each with a checkpoint",
        "entries": entries,
        "per_second": entries / wall,
        "per_cpu_second": entries / cpu,
        "slowest_batch_ms": 1e3 * slowest,
    }


def _proven(store: LogStore, draw: random.Random) -> BenchRow:
    """Inclusion at random places and consistency from random sizes, alternately."""
    size, made = store.size, {"inclusion": list[float](), "consistency": list[float]()}
    root = store.root(size)
    for _ in range(_PROOFS):
        index, old = draw.randrange(size), draw.randrange(1, size)
        began = time.perf_counter()
        proof = store.inclusion(index, size)
        middle = time.perf_counter()
        store.consistency(old, size)
        made["consistency"].append(time.perf_counter() - middle)
        made["inclusion"].append(middle - began)
        (entry,) = store.entries(index, index + 1)
        check_inclusion(leaf_hash(entry), index, size, proof, root)
    return {
        "what": "proof",
        "entries": size,
        "inclusion_ms": 1e3 * statistics.median(made["inclusion"]),
        "consistency_ms": 1e3 * statistics.median(made["consistency"]),
        "slowest_ms": 1e3 * max(max(one) for one in made.values()),
        "longest": max(len(store.inclusion(place, size)) for place in range(0, size, size // 50)),
    }
