"""Every body of sealed steps: known bytes, and corrupt ones that are refused."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from privacy.wire import sealed as wire
from privacy.wire.bodies import BODIES, Kind
from privacy.wire.closing import CLOSING_BODIES, SealedClose, SealedConfirmed
from privacy.wire.envelope import Envelope, open_envelope, seal
from privacy.wire.log import LOG_BODIES
from privacy.wire.reasons import RefusedMessage
from privacy.wire.sealed import OpenedSum, Sealed, SealedCollect, SealedReady, SealedStep, StepForm
from privacy.wire.secagg import SECAGG_BODIES
from privacy.wire.session import SessionGroup, SessionKeys, SessionOffer, SessionOpening
from privacy.wire.signing import SIGNING_BODIES
from tests.privacy.secagg.messages import known_bytes
from tests.privacy.secagg.sealed.messages import (
    GROUP,
    KEYS,
    KNOWN,
    OFFER,
    OPENED,
    SEALED,
    STEP,
    entry,
)

NAMES = [type(body).__name__ for body, _ in KNOWN]
every_body = pytest.mark.parametrize(("body", "fields"), KNOWN, ids=NAMES)

site = st.integers(1, 65535)
ids = st.lists(site, unique=True, max_size=8).map(lambda some: tuple(sorted(some)))
digest = st.binary(min_size=32, max_size=32)
signature = st.binary(min_size=64, max_size=64)
blob = st.binary(max_size=wire.MAX_LOG_BYTES)
word = st.integers(0, 2**32 - 1)
opened_sums = st.builds(
    OpenedSum, word, word, word, digest, ids, hnp.arrays(np.uint64, st.integers(4, 12))
)


def pairs(length: int):
    data = st.binary(min_size=length, max_size=length)
    return st.dictionaries(site, data, max_size=5).map(lambda found: tuple(sorted(found.items())))


bodies = st.one_of(
    st.builds(
        SessionOffer,
        version=st.integers(0, 65535),
        run=st.integers(0, 2**64 - 1),
        session=word,
        first=st.integers(1, 5),
        last=st.integers(5, 2**32 - 1),
        attempts=st.integers(1, 65535),
        study_digest=digest,
        roster_digest=digest,
        terms_digest=digest,
        expiry=st.integers(0, 2**64 - 1),
        members=ids,
        signature=signature,
    ),
    st.builds(SessionGroup, site, digest, pairs(48), signature),
    st.builds(
        SealedStep,
        digest,
        word,
        word,
        st.sampled_from(StepForm),
        st.integers(0, 2**64 - 1),
        *(digest, digest, digest),
        ids,
        digest,
        *(blob, blob, blob),
        signature,
        st.sampled_from([None, SessionOpening(KEYS, GROUP)]),
        st.lists(opened_sums, max_size=3).map(tuple),
    ),
    st.builds(
        Sealed,
        digest,
        hnp.arrays(np.uint64, st.integers(0, 20)),
        st.lists(st.binary(min_size=8, max_size=8), max_size=5).map(tuple),
        digest,
        *(blob, blob, blob),
        signature,
    ),
    st.builds(SealedReady, digest, digest, signature),
    st.builds(SealedCollect, digest, pairs(96)),
    st.builds(
        SealedClose,
        *(st.integers(0, 2**64 - 1), word, word, digest, digest, digest, digest, digest),
        *(signature, st.lists(opened_sums, max_size=2).map(tuple)),
    ),
    st.builds(SealedConfirmed, signature),
)


@every_body
def test_known_bytes(body, fields):
    data = known_bytes(fields)
    assert body.encode() == data
    assert type(body).decode(data) == body


def test_there_is_a_known_answer_for_every_kind():
    sealed = {body.KIND for body, _ in KNOWN}
    kinds = {*wire.SEALED_BODIES, *CLOSING_BODIES}
    assert sealed == kinds == set(Kind) - {*BODIES, *SIGNING_BODIES, *SECAGG_BODIES, *LOG_BODIES}


@given(bodies)
def test_decode_reverses_encode_in_an_envelope_too(body):
    again = type(body).decode(body.encode())
    assert again == body
    assert again.encode() == body.encode()
    sent = Envelope(7, 2, 1, body)
    assert open_envelope(seal(sent), limit=wire.sealed_size_limit(8, 20, 3)) == sent


@every_body
def test_every_cut_and_every_addition_is_refused(body, fields):
    data = known_bytes(fields)
    for length in range(len(data)):
        with pytest.raises(RefusedMessage):
            type(body).decode(data[:length])
    with pytest.raises(RefusedMessage):
        type(body).decode(data + b"\0")


def test_what_is_signed_ends_before_the_signature():
    assert OFFER.encode() == OFFER.signed_part() + OFFER.signature
    assert entry(5).encode() == entry(5).signed_part() + entry(5).signature
    assert len(entry(5).encode()) == 154
    assert GROUP.encode() == GROUP.signed_part() + GROUP.signature
    assert STEP.encode().startswith(STEP.signed_part() + STEP.signature)


def test_what_rides_on_a_step_is_not_signed_and_all_else_is():
    assert replace(STEP, opening=None, opened=()).signed_part() == STEP.signed_part()
    fields = [field for field in STEP.__slots__ if field not in ("opening", "opened", "signature")]
    other = {"form": StepForm.DIRECT, "cohort": (2, 5)}
    for name in fields:
        value = getattr(STEP, name)
        changed = other.get(name, value + 1 if isinstance(value, int) else bytes(len(value) or 1))
        assert replace(STEP, **{name: changed}).signed_part() != STEP.signed_part(), name


def test_an_opened_sum_has_one_byte_string():
    assert OpenedSum.decode(OPENED.encode()) == OPENED
    assert np.array_equal(OPENED.packed, [1])
    for data in (OPENED.encode()[:-1], OPENED.encode() + b"\0"):
        with pytest.raises(RefusedMessage):
            OpenedSum.decode(data)
    for lanes in (np.zeros(3, np.uint64), np.zeros(9, np.int64), np.zeros((2, 4), np.uint64)):
        with pytest.raises(RefusedMessage):
            replace(OPENED, lanes=lanes)


@pytest.mark.parametrize(
    "make",
    [
        lambda: replace(STEP, cohort=(5, 2)),
        lambda: replace(OPENED, cohort=(0, 2)),
        lambda: replace(OFFER, members=(2, 2)),
        lambda: replace(OFFER, first=0),
        lambda: replace(OFFER, first=41),
        lambda: replace(OFFER, attempts=0),
        lambda: SessionKeys((entry(5), entry(5))),
        lambda: SessionGroup(0, bytes(32), (), SEALED.signature),
        lambda: replace(GROUP, boxes=((5, bytes(48)), (2, bytes(48)))),
        lambda: replace(SEALED, lanes=np.zeros(2, np.int64)),
        lambda: replace(SEALED, head=bytes(wire.MAX_LOG_BYTES + 1)).encode(),
        lambda: SealedCollect(bytes(32), ((5, bytes(96)), (2, bytes(96)))),
    ],
)
def test_values_that_mean_nothing_are_refused(make):
    with pytest.raises(RefusedMessage):
        make()


def test_unknown_forms_flags_and_lengths_are_refused():
    data = STEP.encode()
    form, flag = 32 + 8, len(STEP.signed_part()) + 64
    head = len(STEP.signed_part()) - 2 - 4 - 3
    assert (data[form], data[flag], data[head : head + 2]) == (1, 1, b"\0\1")
    for at, value in ((form, b"\2"), (flag, b"\2"), (head, b"\x09\0")):
        with pytest.raises(RefusedMessage):
            SealedStep.decode(data[:at] + value + data[at + len(value) :])
    with pytest.raises(RefusedMessage):  # no count is believed before its lanes are there
        Sealed.decode(bytes(32) + b"\xff" * 4 + bytes(100))


def test_the_limit_takes_the_largest_messages():
    count, lanes = 100, 50
    some = tuple(range(1, count + 1))
    sums = tuple(replace(OPENED, cohort=some, lanes=np.zeros(lanes + 3, np.uint64)) for _ in "ab")
    keys = SessionKeys(tuple(entry(one) for one in some))
    group = SessionGroup(
        1, bytes(32), tuple((one, bytes(48)) for one in some[1:]), SEALED.signature
    )
    log = {name: bytes(2048) for name in ("head", "checkpoint", "cosignature")}
    opening = SessionOpening(keys, group)
    largest = [
        (replace(STEP, cohort=some, opening=opening, opened=sums, **log), 2),
        (replace(SEALED, lanes=sums[0].lanes, checks=(bytes(8),) * (count - 1), **log), 1),
        (SealedCollect(bytes(32), tuple((one, bytes(96)) for one in some)), 1),
    ]
    for body, told in largest:
        data = seal(Envelope(2**64 - 1, 2**32 - 1, 2**32 - 1, body))
        limit = wire.sealed_size_limit(count, lanes, told)
        assert open_envelope(data, limit=limit).body == body
