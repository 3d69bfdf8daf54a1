"""Row "verify": a bundle of 100 sites and 1,000 steps, on one core, in a process of its own.

Ledgers, sessions, requests, vectors and sums are as a run of that size leaves them, each signed by
the key that has to, and each other's digests in them. They are written straight into the bundle,
because 300,000 durable records and as many messages would take hours. Masks are left out of it:
vectors are random, and sums are theirs. The adapter follows from the sums all the same.

`entries`: charges of all ledgers; `seconds`: processor time of the check; `mib`: the most memory
that its process had (Linux: VmHWM).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from hashlib import shake_256
from pathlib import Path
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.audit.made import MADE_RUN, StudySize, made_layout, made_limits, made_values, to_toml
from bench.output import BenchRow
from craftsfl.simulation.members import SimulatedMembers, seeded_identity
from model.layout import frozen_digest
from model.layout_text import encode_layout
from privacy.audit.bundle import BundleParts, RunParts, make_bundle
from privacy.audit.evidence import study_of
from privacy.audit.handed import HandedOver
from privacy.audit.records import AttemptRecord, RunRecord
from privacy.identity import Identity
from privacy.ledger import AttemptKey, Charge, StepMark
from privacy.ledger.binding import bind
from privacy.ledger.chain import Chain
from privacy.ledger.head import Head, sign_head
from privacy.ledger.records import Charged, Content, Genesis, Intent, Sent, hash_of
from privacy.secagg.keys import KeyPair
from privacy.secagg.sealed.attempt import NO_NONCE, sealed_signed, sent_digest
from privacy.secagg.sealed.label import (
    epoch_of,
    keys_digest,
    label_of,
    session_digest,
    session_digests,
)
from privacy.secagg.sealed.opening import offered_session, signed_group, signed_key, signed_step
from privacy.secagg.sealed.residues import no_residues, packed_residues, reduced, residues_in
from privacy.secagg.sealed.stored import StoredMachine
from privacy.study.pooling import sealed_study
from privacy.study.terms import event_of
from privacy.wire.sealed import PROOF_LANES, OpenedSum, Sealed, SealedStep, StepForm
from privacy.wire.session import SessionGroup, SessionKey, SessionKeys, SessionOpening
from strategies.pooled import begin_chain, digests_of, following

_SIGNATURE: Final = bytes(64)
_SITES: Final = 100
_STEPS: Final = 1_000
_CHECK: Final = """
import json, sys, time
from pathlib import Path
from craftsfl.audit.verdict import read_bundle, verify_bundle
begun = time.process_time()
verdict = verify_bundle(read_bundle(Path(sys.argv[1])))
used = time.process_time() - begun
# Not ru_maxrss: that begins with what the process had that started this one.
peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
print(json.dumps({
    "passed": verdict.passed, "seconds": used, "mib": peak, "charges": verdict.counts.charges,
    "sums": verdict.counts.sums, "failures": [str(one) for one in verdict.failures[:3]],
}))
"""


class _Site:
    """A site's identity, its ledger so far, and what it has sent."""

    def __init__(self, name: str, identity: Identity) -> None:
        self.name, self.identity = name, identity
        self.key = Ed25519PrivateKey.from_private_bytes(shake_256(name.encode()).digest(32))
        self.chain = Chain(shake_256(name.encode()).digest(16))
        self.records: list[bytes] = []
        self.sent: list[bytes] = []
        public = self.key.public_key().public_bytes_raw()
        self.add(Genesis(public, name))
        self.add(bind(identity, self.chain.ledger, public, name))

    def add(self, content: Content) -> int:
        """One more record; its number."""
        body = self.chain.next(content, 0).encode()
        self.chain.add_unsigned(body)
        self.records.append(body)
        return len(self.chain) - 1

    def head(self) -> Head:
        """The newest record, signed."""
        last, digest = len(self.records) - 1, hash_of(self.records[-1])
        signature = sign_head(self.key, self.chain.ledger, last, digest)
        public = self.key.public_key().public_bytes_raw()
        return Head(self.chain.ledger, last, digest, public, signature)


def measure(quick: bool) -> Iterator[BenchRow]:
    """One row."""
    sites, steps = (4, 20) if quick else (_SITES, _STEPS)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.zip"
        path.write_bytes(large_bundle(sites, steps))
        size = path.stat().st_size
        done = subprocess.run(
            [sys.executable, "-c", _CHECK, str(path)], check=True, capture_output=True, text=True
        )
    found = json.loads(done.stdout)
    yield {
        "what": "verify",
        "sites": sites,
        "steps": steps,
        "entries": found["charges"],
        "sums": found["sums"],
        "seconds": round(found["seconds"], 2),
        "mib": round(found["mib"], 1),
        "bundle_mib": round(size / 2**20, 1),
        "passed": found["passed"],
    }


def large_bundle(sites: int, steps: int) -> bytes:
    """The bundle of a study of so many sites and steps, which holds."""
    names = [f"site-{i:03d}" for i in range(1, sites + 1)]
    members = SimulatedMembers.seeded(names, consortium="large")
    coordinator = seeded_identity("large coordinator")
    size = StudySize(sites=sites, rounds=steps, parameters=12, noise=30.0)
    text = to_toml(made_values(members, "pooled", size, coordinator)).encode()
    study, layout, roster = study_of(text), made_layout(size.parameters), members.roster
    terms = sealed_study(study, roster, layout.fingerprint(), frozen_digest(layout))
    everybody = [_Site(name, members.identities[name]) for name in names]
    offer = offered_session(coordinator, terms, MADE_RUN, 1, roster.sites, 10**9)
    opening = _opening(offer_sd := session_digest(offer), everybody)
    digests = session_digests(offer, opening)
    chain, random = begin_chain(study, layout), np.random.default_rng(0)
    charge = Charge(study.digest(), event_of(study), study.privacy.delta)
    requests, sums = [], []
    for number in range(1, steps + 1):
        own = digests_of(chain)
        asked = SealedStep(
            *(offer_sd, number, 1, StepForm.DIRECT, number, own.adapter, own.state, own.sums),
            cohort=roster.sites,
            label=bytes(32),
        )
        label = label_of(terms, digests, epoch_of(offer, number, 1), own, asked)
        requests.append(signed_step(coordinator, replace(asked, label=label)))
        total = no_residues(terms.lanes, terms.bits)
        proof = np.zeros(PROOF_LANES, np.uint64)
        for site in everybody:
            lanes = random.integers(0, 2**64, terms.sent, np.uint64)
            lanes[-PROOF_LANES] = 0  # the masks of the zero lane cancel
            _send(site, charge, number, StepMark(label, 1, roster.sites), lanes)
            np.add(total, residues_in(lanes[:-PROOF_LANES], terms.bits), out=total)
            proof += lanes[-PROOF_LANES:]
        packed = packed_residues(reduced(total, terms.bits), terms.bits)
        sums.append(OpenedSum(1, number, 1, label, roster.sites, np.concatenate((packed, proof))))
        chain = following(chain, [sums[-1]], study, roster)
    record = RunRecord(
        *(MADE_RUN, "finished", 1e9, ""),
        tuple(
            AttemptRecord(i, 1, "finished", "", 0.0, 1.0, tuple(names)) for i in range(1, steps + 1)
        ),
        (),
    )
    session = StoredMachine(offer, opening.keys, True, opening.group, None, ())
    vectors = {site.name: tuple(site.sent) for site in everybody}
    limits = made_limits(study)
    handed = {
        one.name: HandedOver.of(
            *(one.name, study, one.identity, limits),
            (one.head(), one.records, one.chain.entries),
            0.0,
        )
        for one in everybody
    }
    return make_bundle(
        BundleParts(
            study=text,
            rosters=(members.signed,),
            ledgers={name: one.ledger for name, one in handed.items()},
            statements={name: one.statement for name, one in handed.items()},
            runs={1: RunParts(record, (session,), tuple(requests), tuple(sums), vectors)},
            layout=encode_layout(layout),
        )
    )


def _send(site: _Site, charge: Charge, step: int, mark: StepMark, lanes: np.ndarray) -> None:
    intent = site.add(Intent(AttemptKey(charge.study_digest, MADE_RUN, step, 1), charge, mark))
    site.add(Charged(intent))
    site.add(Sent(intent, sent_digest(lanes)))
    checks = (bytes(8),) * (len(mark.cohort) - 1)
    made = Sealed(label=mark.label, lanes=lanes, checks=checks, nonce=NO_NONCE)
    signature = site.identity.sign(sealed_signed(made, site.identity.public))
    site.sent.append(replace(made, signature=signature).encode())


def _opening(sd: bytes, everybody: list[_Site]) -> SessionOpening:
    entries = []
    for place, site in enumerate(everybody):
        key = KeyPair(shake_256(f"pair {site.name}".encode()).digest(32)).public
        entry = SessionKey(place + 1, key, site.head().checkpoint, _SIGNATURE)
        entries.append(signed_key(site.identity, sd, entry))
    listed = SessionKeys(tuple(entries))
    kd, dealer = keys_digest(sd, listed), everybody[0]
    boxes = tuple((place, bytes(48)) for place in range(2, len(everybody) + 1))
    group = SessionGroup(1, bytes(32), boxes, _SIGNATURE)
    return SessionOpening(listed, signed_group(dealer.identity, sd, kd, group))
