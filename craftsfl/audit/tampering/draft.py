"""A bundle taken apart, to be changed and put together again with an index that fits."""

from __future__ import annotations

import random as plain
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privacy.audit.archive import read_archive, write_archive
from privacy.audit.bundle import reindexed
from privacy.audit.evidence import ROSTERS_FILE, STUDY_FILE, study_of
from privacy.audit.faults import Flaw
from privacy.audit.index import INDEX_FILE, Index
from privacy.audit.ledgers import encode_ledger
from privacy.audit.packs import packed_rows, unpacked_rows
from privacy.audit.records import RunRecord
from privacy.audit.statement import SignedStatement, SiteStatement
from privacy.identity import Identity
from privacy.ledger.head import HEAD_BYTES, Head, sign_head
from privacy.ledger.records import Content, Record, decode, hash_of
from privacy.secagg.chain import decode_rosters
from privacy.secagg.roster import Roster
from privacy.study.manifest import Study


@dataclass(frozen=True)
class DishonestKeys:
    """Keys of those who lie: of ledgers and identities by site's name, and the coordinator's."""

    ledgers: Mapping[str, Ed25519PrivateKey]
    identities: Mapping[str, Identity]
    coordinator: Identity


@dataclass(frozen=True)
class Tampered:
    """A broken bundle: what was done, in words, at which site ("": at none), and by which names a
    verdict may call it.
    """

    data: bytes
    kind: str
    words: str
    expected: frozenset[Flaw]
    site: str = ""


@dataclass
class Draft:
    """The files of a bundle, any of which may be changed. `keys`: None for whoever has none."""

    files: dict[str, bytes]
    index: Index
    random: plain.Random
    keys: DishonestKeys | None = None
    site: str = ""
    indexed: bool = True  # whether the index is made to fit
    whole: Callable[[bytes], bytes] = field(default=lambda data: data)

    @classmethod
    def of(cls, data: bytes, seed: str, keys: DishonestKeys | None = None) -> Draft:
        """The bundle `data`, and luck that follows from `seed`."""
        files = read_archive(data)
        return cls(files, Index.decode(files[INDEX_FILE]), plain.Random(seed), keys)

    def sealed(self) -> bytes:
        """The bundle as it is now."""
        if not self.indexed:
            return self.whole(write_archive(self.files))
        return self.whole(reindexed(self.files, self.index.consortium, self.index.run))

    @property
    def study(self) -> Study:
        """The manifest, as it is now."""
        return study_of(self.files[STUDY_FILE])

    @property
    def roster(self) -> Roster:
        """The newest roster."""
        return decode_rosters(self.files[ROSTERS_FILE])[-1].roster

    def some_site(self) -> str:
        """A site of the study, which from now on is the one that was tampered with."""
        self.site = self.random.choice(self.study.sites).name
        return self.site

    def run_file(self, name: str) -> str:
        """The name of a file of the run whose adapter it is."""
        return f"runs/{self.index.run:04d}/{name}"

    def rows(self, name: str) -> list[bytes]:
        """A list of the run."""
        return unpacked_rows(self.files.get(self.run_file(name), b""))

    def put_rows(self, name: str, rows: list[bytes]) -> None:
        """Another list in its place."""
        self.files[self.run_file(name)] = packed_rows(rows)

    def record(self) -> RunRecord:
        """What the coordinator says of the run."""
        return RunRecord.decode(self.files[self.run_file("record.json")])

    def put_record(self, record: RunRecord) -> None:
        """Another record in its place."""
        self.files[self.run_file("record.json")] = record.encode()

    def ledger(self, site: str) -> tuple[Head, list[bytes]]:
        """Head and records of a ledger."""
        data = self.files[f"sites/{site}/ledger.bin"]
        return Head.from_bytes(data[:HEAD_BYTES]), unpacked_rows(data[HEAD_BYTES:])

    def put_ledger(self, site: str, head: Head, records: list[bytes]) -> None:
        """Another ledger in its place."""
        self.files[f"sites/{site}/ledger.bin"] = encode_ledger(head, records)

    def statement(self, site: str) -> SignedStatement:
        """What a site has said."""
        return SignedStatement.decode(self.files[f"sites/{site}/statement.json"])

    def say(self, site: str, said: SiteStatement, identity: Identity) -> None:
        """Another statement in its place, signed by `identity`."""
        signed = SignedStatement.signed(said, identity)
        self.files[f"sites/{site}/statement.json"] = signed.encode()

    def rewrite(
        self, site: str, contents: list[Content], key: Ed25519PrivateKey, ledger: bytes = b""
    ) -> None:
        """A ledger of these contents in place of the site's, all hashes right, signed by `key`.

        `ledger`: its id, where it is not that of the site's.
        """
        old, rows = self.ledger(site)
        own = ledger or old.ledger
        times = [decode(row).time for row in rows]
        previous, records = bytes(32), []
        for place, content in enumerate(contents):
            at = times[min(place, len(times) - 1)]
            body = Record(own, place, previous, at, content).encode()
            previous = hash_of(body)
            records.append(body)
        last = len(records) - 1
        public = key.public_key().public_bytes_raw()
        signature = sign_head(key, own, last, previous)
        head = Head(own, last, previous, public, signature)
        self.put_ledger(site, head, records)

    def restate(self, site: str, identity: Identity) -> None:
        """The site's statement about its ledger as it is now, signed by `identity`."""
        head, _ = self.ledger(site)
        said = replace(self.statement(site).statement, head=head.to_bytes())
        self.say(site, said, identity)

    def contents(self, site: str) -> list[Content]:
        """What a ledger's records say, in order."""
        return [decode(row).content for row in self.ledger(site)[1]]
