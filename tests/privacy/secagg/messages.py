"""One sample of every body of secure aggregation, with its bytes field by field."""

import numpy as np

from privacy.wire.bodies import Body, StartTraining
from privacy.wire.checkpoint import Checkpoint
from privacy.wire.checks import Check
from privacy.wire.offer import MechanismNumber, Offer, Terms, TrainMasked
from privacy.wire.secagg import (
    Advertise,
    Advertisements,
    Consistency,
    Deliver,
    MaskedInput,
    SecAggRefusal,
    ShareBundle,
    Survivors,
    Unmask,
    UnmaskRequest,
)

Fields = list[tuple[str, str]]

TERMS = Terms(bytes([0x11]) * 32, 4608, 16, 1.0, 0.5, 2.0, MechanismNumber.LOCAL, 1.5)
OFFER = Offer(
    version=2,
    run=300,
    round=2,
    attempt=1,
    roster_digest=bytes([0x22]) * 32,
    model_digest=bytes([0x33]) * 32,
    terms=TERMS,
    threshold=3,
    expiry=1_800_000_000,
    cohort=(2, 5, 258),
)
START = StartTraining(bytes([0x77]) * 32, bytes([0x88]) * 32, np.array([1.0], np.float32))
SIGNATURE = bytes([0xAA]) * 64
CHECKPOINT = Checkpoint(bytes([0x99]) * 16, 7, bytes([0xBB]) * 32)


def entry(site: int, fill: int = 0x44) -> Advertise:
    keys = (bytes([fill + step]) * 32 for step in range(3))
    return Advertise(site, *keys, CHECKPOINT, SIGNATURE)


_OFFER_FIELDS: Fields = [
    ("version", "0002"),
    ("run", "000000000000012c"),
    ("round", "00000002"),
    ("attempt", "00000001"),
    ("roster digest", "22" * 32),
    ("model digest", "33" * 32),
    ("recipe digest", "11" * 32),
    ("dimension", "00001200"),
    ("bits", "10"),
    ("bound 1.0", "3ff0000000000000"),
    ("clipping norm 0.5", "3fe0000000000000"),
    ("weight cap 2.0", "4000000000000000"),
    ("mechanism: local", "01"),
    ("noise multiplier 1.5", "3ff8000000000000"),
    ("threshold", "0003"),
    ("expiry", "000000006b49d200"),
    ("cohort: sites", "0003"),
    ("site", "0002"),
    ("site", "0005"),
    ("site", "0102"),
]
_ENTRY_FIELDS: Fields = [
    ("site", "0005"),
    ("share key", "44" * 32),
    ("mask key", "45" * 32),
    ("commitment", "46" * 32),
    ("ledger", "99" * 16),
    ("records", "0000000000000007"),
    ("hash of the newest", "bb" * 32),
    ("signature", "aa" * 64),
]

KNOWN: list[tuple[Body, Fields]] = [
    (OFFER, _OFFER_FIELDS),
    (
        TrainMasked(OFFER, START),
        [
            *_OFFER_FIELDS,
            ("study digest", "77" * 32),
            ("layout fingerprint", "88" * 32),
            ("adapter: count", "00000001"),
            ("adapter: 1.0, little-endian", "0000803f"),
        ],
    ),
    (entry(5), _ENTRY_FIELDS),
    (
        Advertisements((entry(5), entry(258, 0x47))),
        [
            ("entries", "0002"),
            *_ENTRY_FIELDS,
            ("site", "0102"),
            ("share key", "47" * 32),
            ("mask key", "48" * 32),
            ("commitment", "49" * 32),
            ("ledger", "99" * 16),
            ("records", "0000000000000007"),
            ("hash of the newest", "bb" * 32),
            ("signature", "aa" * 64),
        ],
    ),
    (
        ShareBundle((bytes([0xB1]) * 82, bytes([0xB2]) * 82)),
        [("peers", "0002"), ("for the first", "b1" * 82), ("for the second", "b2" * 82)],
    ),
    (
        Deliver(((5, bytes([0xB1]) * 82), (258, bytes([0xB2]) * 82))),
        [
            ("senders", "0002"),
            ("sender", "0005"),
            ("sealed", "b1" * 82),
            ("sender", "0102"),
            ("sealed", "b2" * 82),
        ],
    ),
    (
        MaskedInput(np.array([1, 2**63], np.uint64), SIGNATURE),
        [
            ("lanes", "00000002"),
            ("1, little-endian", "0100000000000000"),
            ("2^63, little-endian", "0000000000000080"),
            ("signature", "aa" * 64),
        ],
    ),
    (Survivors((2, 258)), [("sites", "0002"), ("site", "0002"), ("site", "0102")]),
    (Consistency(SIGNATURE), [("signature", "aa" * 64)]),
    (
        UnmaskRequest(((2, SIGNATURE), (258, bytes([0xAB]) * 64))),
        [
            ("signers", "0002"),
            ("signer", "0002"),
            ("signature", "aa" * 64),
            ("signer", "0102"),
            ("signature", "ab" * 64),
        ],
    ),
    (
        Unmask((bytes([0xC1]) * 33, bytes([0xC2]) * 33)),
        [("members of U2", "0002"), ("share", "c1" * 33), ("share", "c2" * 33)],
    ),
    (SecAggRefusal(Check.SIGNATURE, 258), [("check", "1e"), ("site", "0102")]),
]


def known_bytes(fields: Fields) -> bytes:
    return bytes.fromhex("".join(value for _, value in fields))
