import math
import re
import typing

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from privacy.study import manifest
from privacy.wire.bodies import (
    BODIES,
    SITE_NAME,
    Hello,
    Kind,
    Refusal,
    Running,
    SignedFacts,
    SiteFacts,
    StartTraining,
)
from privacy.wire.closing import CLOSING_BODIES
from privacy.wire.log import LOG_BODIES
from privacy.wire.reasons import Reason, RefusedMessage, explain
from privacy.wire.sealed import SEALED_BODIES
from privacy.wire.secagg import SECAGG_BODIES
from privacy.wire.signing import SIGNING_BODIES, RosterSignature, RosterSignatures
from tests.privacy.wire.messages import ADAPTER, KNOWN, LAYOUT, STUDY, facts, known_bytes

NAMES = [type(body).__name__ for body, _ in KNOWN]

digests = st.binary(min_size=32, max_size=32)
signatures = st.binary(min_size=64, max_size=64)
numbers = st.floats(allow_nan=False)
words = st.integers(0, 2**32 - 1)
vectors = hnp.arrays(
    np.float32,
    st.integers(0, 30),
    elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
)
site_facts = st.builds(
    SiteFacts,
    st.from_regex(SITE_NAME, fullmatch=True),
    words,
    digests,
    digests,
    digests,
    words,
    numbers,
    numbers,
    numbers,
    digests,
    numbers,
    numbers,
    words,
    st.tuples(*[st.integers(0, 2**16 - 1)] * 3),
)
bodies = st.one_of(
    st.builds(Hello, digests, st.integers(0, 2**64 - 1), digests),
    site_facts,
    st.builds(SignedFacts, site_facts, st.binary(min_size=64, max_size=64)),
    st.builds(StartTraining, digests, digests, vectors),
    st.just(Running()),
    st.builds(Refusal, st.sampled_from(Reason), numbers, numbers, numbers, words),
    st.builds(RosterSignature, digests, digests, signatures),
    st.builds(
        RosterSignatures,
        digests,
        st.dictionaries(digests, signatures, max_size=3).map(lambda d: tuple(sorted(d.items()))),
    ),
)


@pytest.mark.parametrize(("body", "fields"), KNOWN, ids=NAMES)
def test_known_bytes(body, fields):
    data = known_bytes(fields)
    assert body.encode() == data
    assert type(body).decode(data) == body


def test_there_is_a_known_answer_for_every_kind():
    assert (
        {body.KIND for body, _ in KNOWN}
        == {*BODIES, *SIGNING_BODIES}
        == set(Kind)
        - set(SECAGG_BODIES)
        - set(SEALED_BODIES)
        - set(CLOSING_BODIES)
        - set(LOG_BODIES)
    )


@given(bodies)
def test_decode_reverses_encode(body):
    again = type(body).decode(body.encode())
    assert again == body
    assert hash(again) == hash(body)
    assert again.encode() == body.encode()


@pytest.mark.parametrize(("body", "fields"), KNOWN, ids=NAMES)
def test_every_cut_is_refused(body, fields):
    data = known_bytes(fields)
    for length in range(len(data)):
        with pytest.raises(RefusedMessage):
            type(body).decode(data[:length])


@pytest.mark.parametrize(("body", "fields"), KNOWN, ids=NAMES)
def test_trailing_bytes_are_refused(body, fields):
    with pytest.raises(RefusedMessage) as refused:
        type(body).decode(known_bytes(fields) + b"\0")
    assert refused.value.reason is Reason.MALFORMED


@given(
    st.sampled_from([*BODIES.values(), *SIGNING_BODIES.values(), *SECAGG_BODIES.values()]),
    st.binary(max_size=400),
)
def test_random_bytes_are_refused_or_encode_to_themselves(kind, data):
    try:
        body = kind.decode(data)
    except RefusedMessage as refused:
        assert refused.reason is Reason.MALFORMED
    else:
        assert body.encode() == data


@pytest.mark.parametrize(
    "values",
    [
        np.array([1.0, math.nan], dtype=np.float32),
        np.array([math.inf], dtype=np.float32),
        np.ones((1, 1), dtype=np.float32),
        np.ones(2, dtype=np.float64),
    ],
    ids=["nan", "infinity", "matrix", "float64"],
)
def test_only_flat_finite_float32_vectors_are_adapters(values):
    with pytest.raises(RefusedMessage):
        StartTraining(STUDY, LAYOUT, values)


@pytest.mark.parametrize(
    "pattern", ["0000c07f", "0000807f", "000080ff"], ids=["nan", "inf", "-inf"]
)
def test_vectors_that_are_not_finite_are_refused_on_arrival(pattern):
    data = STUDY + LAYOUT + bytes.fromhex("00000001" + pattern)
    with pytest.raises(RefusedMessage):
        StartTraining.decode(data)


@pytest.mark.parametrize("name", ["", "North", "a b", "-a", "a" * 33, "a\n", "é"])
def test_a_name_that_could_hold_anything_else_is_refused(name):
    with pytest.raises(RefusedMessage):
        facts(name=name)


def test_names_follow_the_study_file():
    annotation = typing.get_args(manifest.SiteName)[1]
    patterns = [item.pattern for item in annotation.metadata if hasattr(item, "pattern")]
    assert patterns == [SITE_NAME]


@pytest.mark.parametrize(
    "field",
    ["epsilon_spent", "epsilon_budget", "delta", "noise_multiplier", "epsilon_schedule"],
)
def test_nan_is_no_figure(field):
    with pytest.raises(RefusedMessage):
        facts(**{field: math.nan}).encode()


def test_no_privacy_is_infinite():
    sent = facts(epsilon_spent=math.inf)
    assert SiteFacts.decode(sent.encode()).epsilon_spent == math.inf


@pytest.mark.parametrize("digest", [b"", bytes(31), bytes(33)])
def test_a_digest_has_32_bytes(digest):
    with pytest.raises(RefusedMessage):
        Hello(digest).encode()


def test_a_flag_is_0_or_1():
    data = facts().encode()
    flag = len(data) - 59  # followed by 32 + 8 + 8 + 4 + 6 bytes
    assert data[flag] == 1
    with pytest.raises(RefusedMessage):
        SiteFacts.decode(data[:flag] + b"\x02" + data[flag + 1 :])


@pytest.mark.parametrize("release", [(), (1, 2), (1, 2, 3, 4), (1, 2, 2**16), (-1, 0, 0)])
def test_a_release_is_three_small_numbers(release):
    with pytest.raises(RefusedMessage):
        facts(release=release).encode()


@pytest.mark.parametrize("number", [-1, 2**32])
def test_a_newest_run_has_32_bits(number):
    with pytest.raises(RefusedMessage):
        facts(newest_run=number).encode()
    with pytest.raises(RefusedMessage):
        Refusal(Reason.OLDER_RUN, newest_run=number).encode()


@pytest.mark.parametrize(
    ("refusal", "data"),
    [
        (Refusal(Reason.OLDER_RUN, newest_run=4), "11" + "00" * 24 + "00000004"),
        (Refusal(Reason.RUN_OPEN, newest_run=2**32 - 1), "12" + "00" * 24 + "ffffffff"),
        (
            Refusal(Reason.CANNOT_FINISH, 1.5, 9.0, 8.0),
            "133ff8000000000000402200000000000040200000000000000" + "0000000",
        ),
        (Refusal(Reason.RUN_TOO_FAR, newest_run=1), "14" + "00" * 24 + "00000001"),
        (Refusal(Reason.WRONG_ROSTER), "15" + "00" * 28),
        (Refusal(Reason.OTHER_VERSION), "16" + "00" * 28),
    ],
    ids=lambda value: value.reason.name if isinstance(value, Refusal) else "",
)
def test_known_bytes_of_refusals_about_runs(refusal, data):
    assert refusal.encode() == bytes.fromhex(data)
    assert Refusal.decode(bytes.fromhex(data)) == refusal


@pytest.mark.parametrize("length", [0, 63, 65])
def test_a_signature_has_64_bytes(length):
    with pytest.raises(RefusedMessage):
        SignedFacts(facts(), bytes(length)).encode()


def test_signed_facts_are_refused_where_the_facts_would_be():
    whole = bytearray(SignedFacts(facts(), bytes(64)).encode())
    whole[2:3] = b"N"  # a capital letter in the name
    with pytest.raises(RefusedMessage):
        SignedFacts.decode(bytes(whole))


@pytest.mark.parametrize("number", [0, 26, 255])
def test_reasons_are_a_closed_set(number):
    with pytest.raises(RefusedMessage):
        Refusal.decode(bytes([number]) + bytes(28))


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_is_explained_with_a_next_step(reason):
    sentences = re.findall(r"[^.]+\.", explain(reason))
    assert len(sentences) >= 2


def test_bodies_of_different_kinds_differ():
    assert Refusal(Reason.POLICY) != Refusal(Reason.BUDGET)
    assert Running() == Running() != Hello(bytes(32))
    assert Running() != 1
    assert StartTraining(STUDY, LAYOUT, ADAPTER) == StartTraining(STUDY, LAYOUT, ADAPTER.copy())


@pytest.mark.parametrize(
    "keys", [(2, 1), (1, 1), tuple(range(1001))], ids=["order", "twice", "many"]
)
def test_signatures_of_a_roster_come_once_each_and_in_order(keys):
    pairs = tuple((key.to_bytes(32, "big"), bytes(64)) for key in keys)
    with pytest.raises(RefusedMessage):
        RosterSignatures(bytes(32), pairs)
