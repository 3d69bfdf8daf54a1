"""A consortium of three with real ledgers, and a log of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from craftsfl.simulation.members import SimulatedMembers, seeded_identity
from privacy.ledger import AttemptKey, Charge, SqliteLedger, StepMark
from privacy.ledger.anchors import Anchors
from privacy.log.batches import RecordBatch, batch_of
from privacy.log.entries import EntryKind, LogEntry, facts
from privacy.log.replay import LogReplay
from privacy.mechanisms.local import PoissonGaussian

COORDINATOR = seeded_identity("coordinator")
NAMES = ("north", "south", "west")
MEMBERS = SimulatedMembers.seeded(NAMES)
ROSTER = MEMBERS.roster
STUDY_BODY = facts(
    {
        "name": "study",
        "pooled": {"coordinator_key": COORDINATOR.public.hex()},
        "secure_aggregation": {"roster": ROSTER.digest().hex()},
    }
)
STUDY = sha256(b"craftsfl/study/v1\0" + STUDY_BODY).digest()
OTHER_STUDY = b"\x55" * 32
EVENT = PoissonGaussian(0.5, 6.0, 0.1, 10)
MOST = 32_768


def entry(kind: EntryKind, body: bytes) -> bytes:
    return LogEntry(kind, 1_700_000_000_000_000, body).encode()


FIRST = (entry(EntryKind.ROSTER, MEMBERS.signed.encode()), entry(EntryKind.STUDY, STUDY_BODY))


@contextmanager
def ledgers(folder: Path, names: tuple[str, ...] = NAMES) -> Iterator[dict[str, SqliteLedger]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(bound_ledger(folder, name)) for name in names}


def bound_ledger(folder: Path, name: str, file: str = "", seed: str = "") -> SqliteLedger:
    """The ledger of `name`, bound to its identity; with another `seed`, of another key."""
    key = Ed25519PrivateKey.from_private_bytes(sha256((seed or name).encode()).digest())
    path = folder / (file or f"{name}.sqlite")
    anchors = Anchors(MEMBERS.identities[name])
    return SqliteLedger(path, key, site=name, clock=lambda: 1_700_000_000.0, anchors=anchors)


def step(ledger: SqliteLedger, number: int, study: bytes = STUDY) -> None:
    """Everything that a site writes at one step."""
    key = AttemptKey(study, 1, number, 1)
    ledger.intent(key, Charge(study, EVENT, 1e-5), StepMark(sha256(b"L").digest(), 7, (1, 2, 3)))
    ledger.commit(key)
    ledger.sent(key, sha256(f"{number}".encode()).digest())


def lacking(ledger: SqliteLedger, replay: LogReplay, most: int = MOST) -> RecordBatch | None:
    """What the log lacks of `ledger`."""
    line = replay.lines.get(ledger.head().ledger)
    return batch_of(ledger, 0 if line is None else len(line), STUDY, most)


def records(batch: RecordBatch | None) -> bytes:
    assert batch is not None
    return entry(EntryKind.RECORDS, batch.encode())


@dataclass
class Diary:
    """A log in memory: a replay, and the entries that it has taken."""

    replay: LogReplay = field(default_factory=lambda: LogReplay(COORDINATOR.public))
    entries: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        for one in FIRST:
            self.take(one)

    def take(self, data: bytes) -> None:
        self.replay.take(data)
        self.entries.append(data)

    def bring_up(self, ledger: SqliteLedger) -> None:
        self.take(records(lacking(ledger, self.replay)))

    def close(self) -> None:
        self.take(entry(EntryKind.HEADS, self.replay.table().encode()))
