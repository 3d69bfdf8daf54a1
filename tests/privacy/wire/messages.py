"""One sample of every message, with the bytes that it must have, field by field."""

import numpy as np

from privacy.wire.bodies import (
    Body,
    Hello,
    Refusal,
    Running,
    RunOver,
    SignedFacts,
    SiteFacts,
    StartTraining,
)
from privacy.wire.reasons import Reason
from privacy.wire.signing import RosterSignature, RosterSignatures

STUDY = bytes([0x11]) * 32
BASE = bytes([0x22]) * 32
LAYOUT = bytes([0x33]) * 32
ROSTER = bytes([0x44]) * 32
ADAPTER = np.array([1.0, -2.5], dtype=np.float32)


def facts(**changes) -> SiteFacts:
    values = {
        "name": "north-1",
        "declared_patients": 500,
        "study_digest": STUDY,
        "base_digest": BASE,
        "layout_fingerprint": LAYOUT,
        "parameters": 4608,
        "epsilon_spent": 1.5,
        "epsilon_budget": 8.0,
        "delta": 0.125,
        "roster_digest": ROSTER,
        "noise_multiplier": 2.5,
        "epsilon_schedule": 6.0,
        "newest_run": 3,
        "release": (0, 2, 1),
    }
    return SiteFacts(**{**values, **changes})


KNOWN: list[tuple[Body, list[tuple[str, str]]]] = [
    (
        Hello(STUDY, 2**64 - 2, ROSTER),
        [
            ("study digest", "11" * 32),
            ("node", "fffffffffffffffe"),
            ("roster digest", "44" * 32),
        ],
    ),
    (
        facts(),
        [
            ("name: length", "0007"),
            ("name", "6e6f7274682d31"),
            ("declared patients", "000001f4"),
            ("study digest", "11" * 32),
            ("base digest", "22" * 32),
            ("layout fingerprint", "33" * 32),
            ("parameters", "00001200"),
            ("epsilon spent", "3ff8000000000000"),
            ("epsilon budget", "4020000000000000"),
            ("delta", "3fc0000000000000"),
            ("masked", "01"),
            ("roster digest", "44" * 32),
            ("noise multiplier", "4004000000000000"),
            ("epsilon of the schedule", "4018000000000000"),
            ("newest run", "00000003"),
            ("release", "000000020001"),
        ],
    ),
    (
        SignedFacts(facts(), bytes([0x77]) * 64),
        [
            ("name: length", "0007"),
            ("name", "6e6f7274682d31"),
            ("declared patients", "000001f4"),
            ("study digest", "11" * 32),
            ("base digest", "22" * 32),
            ("layout fingerprint", "33" * 32),
            ("parameters", "00001200"),
            ("epsilon spent", "3ff8000000000000"),
            ("epsilon budget", "4020000000000000"),
            ("delta", "3fc0000000000000"),
            ("masked", "01"),
            ("roster digest", "44" * 32),
            ("noise multiplier", "4004000000000000"),
            ("epsilon of the schedule", "4018000000000000"),
            ("newest run", "00000003"),
            ("release", "000000020001"),
            ("signature", "77" * 64),
        ],
    ),
    (
        StartTraining(STUDY, LAYOUT, ADAPTER),
        [
            ("study digest", "11" * 32),
            ("layout fingerprint", "33" * 32),
            ("adapter: count", "00000002"),
            ("adapter: 1.0, little-endian", "0000803f"),
            ("adapter: -2.5, little-endian", "000020c0"),
        ],
    ),
    (Running(), []),
    (RunOver(), []),
    (
        Refusal(Reason.BUDGET, 1.5, 9.0, 8.0),
        [
            ("reason", "09"),
            ("spent", "3ff8000000000000"),
            ("would be", "4022000000000000"),
            ("budget", "4020000000000000"),
            ("newest run", "00000000"),
        ],
    ),
    (
        RosterSignature(ROSTER, bytes([0x66]) * 32, bytes([0x77]) * 64),
        [("roster digest", "44" * 32), ("public key", "66" * 32), ("signature", "77" * 64)],
    ),
    (
        RosterSignatures(
            ROSTER,
            (
                (bytes([0x01]) * 32, bytes([0x77]) * 64),
                (bytes([0x02]) * 32, bytes([0x88]) * 64),
            ),
        ),
        [
            ("roster digest", "44" * 32),
            ("signatures: count", "0002"),
            ("public key", "01" * 32),
            ("signature", "77" * 64),
            ("public key", "02" * 32),
            ("signature", "88" * 64),
        ],
    ),
]


def known_bytes(fields: list[tuple[str, str]]) -> bytes:
    return bytes.fromhex("".join(value for _, value in fields))
