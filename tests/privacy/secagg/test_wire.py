"""Every body of secure aggregation: known bytes, and corrupt ones that are refused."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from privacy.secagg import keys, shamir
from privacy.wire import secagg as wire
from privacy.wire.bodies import SIGNATURE_BYTES
from privacy.wire.checkpoint import Checkpoint
from privacy.wire.checks import Check, explain_check
from privacy.wire.envelope import Envelope, open_envelope, seal
from privacy.wire.offer import MechanismNumber, Offer, Terms, TrainMasked
from privacy.wire.reasons import RefusedMessage
from privacy.wire.sites import MAX_SITES
from tests.privacy.secagg.messages import (
    KNOWN,
    OFFER,
    SIGNATURE,
    START,
    TERMS,
    entry,
    known_bytes,
)

NAMES = [type(body).__name__ for body, _ in KNOWN]
every_body = pytest.mark.parametrize(("body", "fields"), KNOWN, ids=NAMES)

site = st.integers(1, 65535)
sites = st.lists(site, unique=True, max_size=8).map(lambda ids: tuple(sorted(ids)))
signature = st.binary(min_size=64, max_size=64)
digest = st.binary(min_size=32, max_size=32)
positive = st.floats(1e-300, 1e300)
terms = st.builds(
    Terms,
    digest,
    st.integers(1, 2**32 - 1),
    st.integers(2, 32),
    *(positive, positive, positive),
    st.sampled_from([MechanismNumber.LOCAL, MechanismNumber.POOLED]),
    positive,
)
offers = st.builds(
    Offer,
    version=st.integers(0, 65535),
    run=st.integers(0, 2**64 - 1),
    round=st.integers(0, 2**32 - 1),
    attempt=st.integers(0, 2**32 - 1),
    roster_digest=digest,
    model_digest=digest,
    terms=terms,
    threshold=st.integers(0, 65535),
    expiry=st.integers(0, 2**64 - 1),
    cohort=sites,
)
checkpoints = st.builds(
    Checkpoint, st.binary(min_size=16, max_size=16), st.integers(0, 2**64 - 1), digest
)
entries = st.builds(wire.Advertise, site, digest, digest, digest, checkpoints, signature)


def pairs(length: int):
    data = st.binary(min_size=length, max_size=length)
    return st.dictionaries(site, data, max_size=5).map(lambda found: tuple(sorted(found.items())))


def many(length: int):
    return st.lists(st.binary(min_size=length, max_size=length), max_size=5).map(tuple)


bodies = st.one_of(
    offers,
    offers.map(lambda offer: TrainMasked(offer, START)),
    entries,
    st.lists(entries, max_size=4, unique_by=lambda one: one.site).map(
        lambda found: wire.Advertisements(tuple(sorted(found, key=lambda one: one.site)))
    ),
    many(82).map(wire.ShareBundle),
    pairs(82).map(wire.Deliver),
    st.builds(wire.MaskedInput, hnp.arrays(np.uint64, st.integers(0, 20)), signature),
    sites.map(wire.Survivors),
    signature.map(wire.Consistency),
    pairs(64).map(wire.UnmaskRequest),
    many(33).map(wire.Unmask),
    st.builds(wire.SecAggRefusal, st.sampled_from(Check), st.integers(0, 65535)),
)


@every_body
def test_known_bytes(body, fields):
    data = known_bytes(fields)
    assert body.encode() == data
    assert type(body).decode(data) == body


def test_there_is_a_known_answer_for_every_kind():
    assert {body.KIND for body, _ in KNOWN} == set(wire.SECAGG_BODIES)


def test_lengths_are_those_of_the_design():
    assert len(entry(5).encode()) == wire.ADVERTISE_BYTES == 218
    assert len(entry(5).signed_part()) == 154
    assert wire.SEALED_BYTES == keys.SHARE_PAIR_BYTES + 16 == 82
    assert wire.SHARE_BYTES == (shamir.PRIME.bit_length() + 7) // 8 == 33
    assert (wire.KEY_BYTES, SIGNATURE_BYTES) == (32, 64)


@given(bodies)
def test_decode_reverses_encode(body):
    again = type(body).decode(body.encode())
    assert again == body
    assert again.encode() == body.encode()


@given(bodies)
def test_every_body_travels_in_an_envelope(body):
    sent = Envelope(7, 2, 1, body)
    assert open_envelope(seal(sent), limit=wire.masked_size_limit(8, 20, 1)) == sent


@every_body
def test_every_cut_and_every_addition_is_refused(body, fields):
    data = known_bytes(fields)
    for length in range(len(data)):
        with pytest.raises(RefusedMessage):
            type(body).decode(data[:length])
    with pytest.raises(RefusedMessage):
        type(body).decode(data + b"\0")


@pytest.mark.parametrize(
    "ids", ["00020005", "00050005", "00000005"], ids=["descending", "twice", "zero"]
)
def test_a_list_of_sites_has_one_form(ids):
    first, second = ids[:4], ids[4:]
    if first == "0002":
        first, second = second, first
    corrupt = {
        wire.Survivors: f"0002{first}{second}",
        wire.Deliver: f"0002{first}{'b1' * 82}{second}{'b2' * 82}",
        wire.UnmaskRequest: f"0002{first}{'aa' * 64}{second}{'ab' * 64}",
        wire.Advertisements: f"0002{first}{'44' * 216}{second}{'45' * 216}",
        Offer: OFFER.encode()[:-8].hex() + f"0002{first}{second}",
    }
    for kind, data in corrupt.items():
        with pytest.raises(RefusedMessage):
            kind.decode(bytes.fromhex(data))


def test_no_site_is_the_coordinator():
    with pytest.raises(RefusedMessage):
        wire.Advertise.decode(bytes(2) + entry(5).encode()[2:])


def test_lists_are_bounded():
    wire.Survivors(tuple(range(1, MAX_SITES + 1)))
    with pytest.raises(RefusedMessage):
        wire.Survivors(tuple(range(1, MAX_SITES + 2)))


@pytest.mark.parametrize(
    "change",
    [
        {"dimension": 0},
        {"bits": 1},
        {"bits": 33},
        {"bound": 0.0},
        {"bound": math.inf},
        {"bound": math.nan},
        {"clipping_norm": -1.0},
        {"weight_cap": 0.0},
        {"noise_multiplier": -1.0},
        {"noise_multiplier": math.inf},
        {"noise_multiplier": 0.0},
        {"mechanism": MechanismNumber.PLAIN},
    ],
    ids=str,
)
def test_terms_that_mean_nothing_are_refused(change):
    with pytest.raises(RefusedMessage):
        replace(TERMS, **change)


@pytest.mark.parametrize(
    ("field", "value"),
    [("bits", "00"), ("mechanism: local", "03"), ("bound 1.0", "7ff8000000000000")],
)
def test_corrupt_offers_are_refused(field, value):
    fields = [(name, value if name == field else known) for name, known in KNOWN[0][1]]
    with pytest.raises(RefusedMessage):
        Offer.decode(known_bytes(fields))


def test_a_refusal_names_a_check_that_exists():
    for number in (0, 16, 255):
        with pytest.raises(RefusedMessage):
            wire.SecAggRefusal.decode(bytes([number, 0, 1]))


@pytest.mark.parametrize(
    "lanes", [np.zeros(2, np.int64), np.zeros((1, 2), np.uint64)], ids=["signed", "matrix"]
)
def test_only_flat_unsigned_words_are_lanes(lanes):
    with pytest.raises(RefusedMessage):
        wire.MaskedInput(lanes, SIGNATURE)


def test_received_lanes_cannot_be_changed():
    data = wire.MaskedInput(np.ones(3, np.uint64), SIGNATURE).encode()
    with pytest.raises(ValueError, match="read-only"):
        wire.MaskedInput.decode(data).lanes[0] = 2


def test_no_number_of_lanes_is_believed_before_they_are_there():
    with pytest.raises(RefusedMessage):
        wire.MaskedInput.decode(bytes.fromhex("ffffffff") + bytes(100))


@pytest.mark.parametrize("check", list(Check))
def test_every_check_is_explained_with_a_next_step(check):
    assert len(re.findall(r"[^.]+\.", explain_check(check))) >= 2


def test_the_limit_takes_the_largest_messages():
    count = 100
    ids = tuple(range(1, count + 1))
    largest = [
        wire.Advertisements(tuple(entry(one) for one in ids)),
        wire.ShareBundle((bytes(82),) * (count - 1)),
        wire.Deliver(tuple((one, bytes(82)) for one in ids[1:])),
        wire.UnmaskRequest(tuple((one, SIGNATURE) for one in ids)),
        wire.Unmask((bytes(33),) * count),
        wire.MaskedInput(np.zeros(50, np.uint64), SIGNATURE),
        TrainMasked(replace(OFFER, cohort=ids), START),
    ]
    for body in largest:
        sealed = seal(Envelope(2**64 - 1, 2**32 - 1, 2**32 - 1, body))
        assert open_envelope(sealed, limit=wire.masked_size_limit(count, 50, 1)).body == body
