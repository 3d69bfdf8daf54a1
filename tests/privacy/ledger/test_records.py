from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.errors import LedgerError
from privacy.ledger import AttemptKey, Charge, StepMark
from privacy.ledger.records import (
    Bound,
    Charged,
    Content,
    GeneratorTried,
    Genesis,
    Intent,
    Record,
    Sent,
    SessionBegun,
    decode,
    hash_of,
)
from privacy.mechanisms.local import PoissonGaussian
from privacy.wire.checkpoint import Checkpoint

EVENT = PoissonGaussian(0.5, 6.0, 0.1, 10)
CHARGE = Charge(b"\x44" * 32, EVENT, 1e-5)
KEY = AttemptKey(CHARGE.study_digest, 2**64 - 1, 3, 1)
HEADER = (
    "11" * 16  # ledger
    + "0000000000000007"  # sequence
    + "22" * 32  # previous
    + "00062b9d93380c80"  # time
)
EVENT_TEXT = (
    b'{"clipping_norm":0.1,"event":"poisson-gaussian","neighbouring":"zero-out",'
    b'"noise_multiplier":6.0,"sampling_rate":0.5,"steps":10,"unit":"patient","version":1}'
)
KNOWN: list[tuple[Content, str]] = [
    (
        Genesis(b"\x33" * 32, "north"),
        "0101" + HEADER + "33" * 32 + "0005" + b"north".hex(),
    ),
    (
        Intent(KEY, CHARGE),
        "0102"
        + HEADER
        + "ffffffffffffffff"  # run
        + "00000003"  # round
        + "00000001"  # attempt
        + "44" * 32  # study digest
        + "3ee4f8b588e368f1"  # delta
        + f"{len(EVENT_TEXT):04x}"
        + EVENT_TEXT.hex(),
    ),
    (Charged(6), "0103" + HEADER + "0000000000000006"),
    (
        Bound(b"\x55" * 32, b"\x66" * 64, Checkpoint(b"\x77" * 16, 9, b"\x88" * 32)),
        "0104"
        + HEADER
        + "55" * 32  # identity
        + "66" * 64  # its signature
        + "77" * 16  # the ledger in whose place this one stands
        + "0000000000000009"  # its records
        + "88" * 32,  # the hash of the newest
    ),
    (
        Intent(KEY, CHARGE, StepMark(b"\x99" * 32, 258, (1, 3, 500))),
        "0105"
        + HEADER
        + "ffffffffffffffff"  # run
        + "00000003"  # step
        + "00000001"  # attempt
        + "44" * 32  # study digest
        + "3ee4f8b588e368f1"  # delta
        + f"{len(EVENT_TEXT):04x}"
        + EVENT_TEXT.hex()
        + "99" * 32  # label
        + "0000000000000102"  # session
        + "0003"  # sites
        + "0001"
        + "0003"
        + "01f4",
    ),
    (Sent(6, b"\xaa" * 32), "0106" + HEADER + "0000000000000006" + "aa" * 32),
    (
        SessionBegun(b"\x44" * 32, 2, 3, b"\xbb" * 32),
        "0107"
        + HEADER
        + "44" * 32  # study digest
        + "0000000000000002"  # run
        + "0000000000000003"  # number
        + "bb" * 32,  # session digest
    ),
    (
        GeneratorTried(False, True, 8 << 16, 65_536, 0.25, -1.0, float("inf")),
        "0108"
        + HEADER
        + "00"  # passed
        + "01"  # the known answers
        + "0000000000080000"  # deviation
        + "00010000"  # draws
        + "3fd0000000000000"  # variance
        + "bff0000000000000"  # shared
        + "7ff0000000000000",  # fit
    ),
]


def record(content: Content) -> Record:
    return Record(b"\x11" * 16, 7, b"\x22" * 32, 0x62B9D93380C80, content)


@pytest.mark.parametrize(("content", "data"), KNOWN)
def test_known_bytes(content: Content, data: str) -> None:
    assert record(content).encode().hex() == data
    assert decode(bytes.fromhex(data)) == record(content)


def test_a_known_hash() -> None:
    data = bytes.fromhex(KNOWN[2][1])
    assert hash_of(data).hex() == (
        "4df8e37c0e6fd05ed12e378bcb9162e8b33832be0a0369c51521990381ec3d97"
    )


@pytest.mark.parametrize("data", [data for _, data in KNOWN])
def test_cut_and_lengthened_bytes_are_refused(data: str) -> None:
    whole = bytes.fromhex(data)
    for length in range(len(whole)):
        with pytest.raises(LedgerError):
            decode(whole[:length])
    with pytest.raises(LedgerError, match="not a record"):
        decode(whole + b"\0")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("0102", "0202", "version 2"),
        ("0102", "0002", "not a record"),
        ("0102", "0109", "unknown kind 9"),
        ("3ee4f8b588e368f1", "3ff0000000000000", "not a record"),  # delta 1
        ("3ee4f8b588e368f1", "7ff8000000000000", "not a record"),  # delta NaN
        (b'"steps":10'.hex(), b'"steps":00'.hex(), "not a record"),
        (b'"steps":10'.hex(), b'"steps": 1'.hex(), "not a record"),  # not canonical
        (b'"steps":10'.hex(), b'"stebs":10'.hex(), "not a record"),
        (b"poisson-g".hex(), b"poisson-h".hex(), "not a record"),
    ],
)
def test_what_this_version_does_not_write_is_refused(old: str, new: str, words: str) -> None:
    data = KNOWN[1][1]
    assert old in data
    with pytest.raises(LedgerError, match=words):
        decode(bytes.fromhex(data.replace(old, new, 1)))


def test_what_does_not_fit_is_not_written() -> None:
    with pytest.raises(LedgerError, match="cannot be written"):
        record(Genesis(bytes(32), "n" * 65)).encode()
    with pytest.raises(LedgerError, match="cannot be written"):
        record(Intent(KEY, CHARGE, StepMark(bytes(32), 1, (2, 1)))).encode()


def test_a_cohort_out_of_order_is_no_record() -> None:
    data = next(data for content, data in KNOWN if isinstance(content, Intent) and content.mark)
    with pytest.raises(LedgerError, match="not a record"):
        decode(bytes.fromhex(data.replace("0003" + "0001" + "0003", "0003" + "0003" + "0003")))


@given(
    run=st.integers(0, 2**64 - 1),
    numbers=st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
    study=st.binary(min_size=32, max_size=32),
    delta=st.floats(1e-300, 0.99),
    sigma=st.floats(0.01, 1e4),
    time=st.integers(0, 2**64 - 1),
)
def test_every_intent_comes_back(
    run: int, numbers: tuple[int, int], study: bytes, delta: float, sigma: float, time: int
) -> None:
    charge = Charge(study, PoissonGaussian(0.5, sigma, 0.1, 10), delta)
    content = Intent(AttemptKey(study, run, *numbers), charge)
    written = Record(bytes(16), 1, bytes(32), time, content)
    assert decode(written.encode()) == written
