"""One sample of every body of sealed steps, with its bytes field by field."""

import numpy as np

from privacy.wire.bodies import Body
from privacy.wire.checkpoint import Checkpoint
from privacy.wire.closing import SealedClose, SealedConfirmed
from privacy.wire.sealed import (
    OpenedSum,
    Sealed,
    SealedCollect,
    SealedReady,
    SealedStep,
    StepForm,
)
from privacy.wire.session import (
    SessionGroup,
    SessionKey,
    SessionKeys,
    SessionOffer,
    SessionOpening,
)

Fields = list[tuple[str, str]]

SIGNATURE = bytes([0xAA]) * 64
OFFER = SessionOffer(
    version=1,
    run=300,
    session=7,
    first=2,
    last=40,
    attempts=3,
    study_digest=bytes([0x11]) * 32,
    roster_digest=bytes([0x22]) * 32,
    terms_digest=bytes([0x33]) * 32,
    expiry=1_800_000_000,
    members=(2, 5, 258),
    signature=SIGNATURE,
)


def entry(site: int, fill: int = 0x44) -> SessionKey:
    ledger = Checkpoint(bytes([0x99]) * 16, 7, bytes([0xBB]) * 32)
    return SessionKey(site, bytes([fill]) * 32, ledger, SIGNATURE)


KEYS = SessionKeys((entry(5), entry(258, 0x47)))
GROUP = SessionGroup(5, bytes([0xB0]) * 32, ((258, bytes([0xB1]) * 48),), SIGNATURE)
LANES = np.array([1, 2**63, 3, 4], np.uint64)
OPENED = OpenedSum(7, 2, 1, bytes([0x55]) * 32, (5, 258), LANES)
STEP = SealedStep(
    session_digest=bytes([0x61]) * 32,
    step=3,
    attempt=2,
    form=StepForm.READY,
    slot=1_800_000_000_123,
    adapter=bytes([0x62]) * 32,
    state=bytes([0x63]) * 32,
    sums=bytes([0x64]) * 32,
    cohort=(2, 5, 258),
    label=bytes([0x65]) * 32,
    head=b"h",
    checkpoint=b"cc",
    cosignature=b"",
    signature=SIGNATURE,
    opening=SessionOpening(KEYS, GROUP),
    opened=(OPENED,),
)
SEALED = Sealed(
    label=bytes([0x65]) * 32,
    lanes=LANES[:2],
    checks=(bytes([0xC1]) * 8, bytes([0xC2]) * 8),
    nonce=bytes([0xD1]) * 32,
    head=b"",
    checkpoint=b"cc",
    cosignature=b"s",
    signature=SIGNATURE,
)

_IDS: Fields = [("sites", "0003"), ("site", "0002"), ("site", "0005"), ("site", "0102")]


def _entry_fields(site: str, fill: str) -> Fields:
    return [
        ("site", site),
        ("key", fill * 32),
        ("ledger", "99" * 16),
        ("records", "0000000000000007"),
        ("hash of the newest", "bb" * 32),
        ("signature", "aa" * 64),
    ]


_KEYS_FIELDS: Fields = [
    ("entries", "0002"),
    *_entry_fields("0005", "44"),
    *_entry_fields("0102", "47"),
]
_GROUP_FIELDS: Fields = [
    ("dealer", "0005"),
    ("commitment", "b0" * 32),
    ("boxes", "0001"),
    ("for site", "0102"),
    ("box", "b1" * 48),
    ("signature", "aa" * 64),
]
_OPENED_FIELDS: Fields = [
    ("session", "00000007"),
    ("step", "00000002"),
    ("attempt", "00000001"),
    ("label", "55" * 32),
    ("cohort: sites", "0002"),
    ("site", "0005"),
    ("site", "0102"),
    ("lanes", "00000004"),
    ("1, little-endian", "0100000000000000"),
    ("2^63, little-endian", "0000000000000080"),
    ("tag 0: 3", "0300000000000000"),
    ("tag 1: 4", "0400000000000000"),
]

KNOWN: list[tuple[Body, Fields]] = [
    (
        OFFER,
        [
            ("version", "0001"),
            ("run", "000000000000012c"),
            ("session", "00000007"),
            ("first step", "00000002"),
            ("last step", "00000028"),
            ("attempts at a step", "0003"),
            ("study digest", "11" * 32),
            ("roster digest", "22" * 32),
            ("terms digest", "33" * 32),
            ("expiry", "000000006b49d200"),
            *_IDS,
            ("signature", "aa" * 64),
        ],
    ),
    (entry(5), _entry_fields("0005", "44")),
    (KEYS, _KEYS_FIELDS),
    (GROUP, _GROUP_FIELDS),
    (
        STEP,
        [
            ("session digest", "61" * 32),
            ("step", "00000003"),
            ("attempt", "00000002"),
            ("form: ready", "01"),
            ("slot, ms", "000001a3185c507b"),
            ("adapter", "62" * 32),
            ("state", "63" * 32),
            ("sums", "64" * 32),
            *_IDS,
            ("label", "65" * 32),
            ("head", "0001" + "68"),
            ("checkpoint", "0002" + "6363"),
            ("cosignature", "0000"),
            ("signature", "aa" * 64),
            ("an opening follows", "01"),
            *_KEYS_FIELDS,
            *_GROUP_FIELDS,
            ("opened sums", "0001"),
            *_OPENED_FIELDS,
        ],
    ),
    (
        SEALED,
        [
            ("label", "65" * 32),
            ("lanes", "00000002"),
            ("1, little-endian", "0100000000000000"),
            ("2^63, little-endian", "0000000000000080"),
            ("checks", "0002"),
            ("of the first peer", "c1" * 8),
            ("of the second", "c2" * 8),
            ("nonce", "d1" * 32),
            ("head", "0000"),
            ("checkpoint", "0002" + "6363"),
            ("cosignature", "0001" + "73"),
            ("signature", "aa" * 64),
        ],
    ),
    (
        SealedReady(bytes([0x65]) * 32, bytes([0xE1]) * 32, SIGNATURE),
        [("label", "65" * 32), ("commitment", "e1" * 32), ("signature", "aa" * 64)],
    ),
    (
        SealedCollect(bytes([0x65]) * 32, ((2, bytes([0xE1]) * 96), (258, bytes([0xE2]) * 96))),
        [
            ("label", "65" * 32),
            ("sites", "0002"),
            ("site", "0002"),
            ("commitment and signature", "e1" * 96),
            ("site", "0102"),
            ("commitment and signature", "e2" * 96),
        ],
    ),
    (
        SealedClose(
            *(300, 7, 40, *(bytes([0x11 * place]) * 32 for place in range(1, 6))),
            signature=SIGNATURE,
            opened=(OPENED,),
        ),
        [
            ("run", "000000000000012c"),
            ("session", "00000007"),
            ("steps", "00000028"),
            ("study digest", "11" * 32),
            ("adapter", "22" * 32),
            ("state", "33" * 32),
            ("sums", "44" * 32),
            ("published", "55" * 32),
            ("signature", "aa" * 64),
            ("opened sums", "0001"),
            *_OPENED_FIELDS,
        ],
    ),
    (SealedConfirmed(SIGNATURE), [("signature", "aa" * 64)]),
]
