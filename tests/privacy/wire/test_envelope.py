import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.wire.bodies import Kind, Refusal, Running, StartTraining
from privacy.wire.codec import Writer
from privacy.wire.envelope import Envelope, open_envelope, refuse, seal, size_limit
from privacy.wire.reasons import Reason, RefusedMessage
from tests.privacy.wire.messages import KNOWN, LAYOUT, STUDY, facts

LIMIT = size_limit(10)

# The envelope of Refusal(STOPPED) in run 300, round 2, attempt 1, field by field.
VERSION = "0803"
RUN = "10ac02"
ROUND = "1802"
ATTEMPT = "2001"
KIND = "2808"
REFUSAL = f"{Reason.STOPPED:02x}" + (3 * 8 + 4) * "00"  # the reason, three epsilons, a run
BODY = "321d" + REFUSAL
GOOD = VERSION + RUN + ROUND + ATTEMPT + KIND + BODY


def opened(data: bytes) -> Envelope:
    return open_envelope(data, limit=LIMIT)


def refusal(data: bytes) -> Reason:
    with pytest.raises(RefusedMessage) as refused:
        opened(data)
    return refused.value.reason


def test_known_bytes():
    envelope = Envelope(300, 2, 1, Refusal(Reason.STOPPED))
    assert seal(envelope) == bytes.fromhex(GOOD)
    assert opened(bytes.fromhex(GOOD)) == envelope


@pytest.mark.parametrize("body", [body for body, _ in KNOWN], ids=lambda body: body.KIND.name)
def test_every_body_travels(body):
    envelope = Envelope(2**64 - 1, 2**32 - 1, 0, body)
    assert opened(seal(envelope)) == envelope


@pytest.mark.parametrize("body", [body for body, _ in KNOWN], ids=lambda body: body.KIND.name)
def test_no_envelope_that_is_cut_short_is_an_envelope(body):
    sealed = seal(Envelope(300, 2, 1, body))
    for length in range(len(sealed)):
        with pytest.raises(RefusedMessage):
            opened(sealed[:length])


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_open_reverses_seal(run, number, attempt):
    envelope = Envelope(run, number, attempt, Running())
    assert opened(seal(envelope)) == envelope


@pytest.mark.parametrize(
    "data",
    [
        "",
        GOOD + "00",  # trailing byte
        GOOD + "3a0100",  # unknown field 7
        VERSION + RUN + ROUND + ATTEMPT + KIND + "380132" + BODY[2:],  # unknown field in the middle
        GOOD + VERSION,  # a field twice, same value
        VERSION + "1001" + GOOD[4:],  # a field twice, the last one wins
        RUN + VERSION + ROUND + ATTEMPT + KIND + BODY,  # another order
        GOOD[4:],  # version 0
        "088300" + GOOD[4:],  # the version as a varint that is longer than needed
        VERSION + RUN + "1882808080" + "1000" + ATTEMPT + KIND + BODY,  # 2 + 2**32: protobuf cuts
        VERSION + "1000" + ROUND + ATTEMPT + KIND + BODY,  # a zero, written out
        VERSION
        + RUN
        + ROUND
        + ATTEMPT
        + KIND
        + "321e"
        + REFUSAL
        + "00",  # body goes on after its last field
        VERSION + RUN + ROUND + ATTEMPT + KIND,  # no body
        VERSION
        + RUN
        + ROUND
        + ATTEMPT
        + KIND
        + "321dee"
        + REFUSAL[2:],  # body with a value that is not allowed
        VERSION + RUN + ROUND + ATTEMPT + KIND + "32ff01" + REFUSAL,  # body longer than the message
        "0a0101" + GOOD[4:],  # a field of another wire type
        "ffffffff",
    ],
)
def test_malformed_envelopes_are_refused(data):
    assert refusal(bytes.fromhex(data)) is Reason.MALFORMED


@pytest.mark.parametrize("version", ["0801", "0802", "0804"])
def test_another_version_is_named_as_such(version):
    assert refusal(bytes.fromhex(version + GOOD[4:])) is Reason.OTHER_VERSION


@pytest.mark.parametrize("kind", ["00", "0a", "7f"])
def test_unknown_kinds_are_refused(kind):
    data = VERSION + RUN + ROUND + ATTEMPT + ("" if kind == "00" else "28" + kind) + BODY
    assert refusal(bytes.fromhex(data)) is Reason.UNKNOWN_KIND


@given(st.binary(max_size=300))
def test_random_bytes_are_refused_or_seal_to_themselves(data):
    try:
        envelope = opened(data)
    except RefusedMessage as refused:
        allowed = (Reason.MALFORMED, Reason.UNKNOWN_KIND, Reason.OTHER_VERSION)
        assert refused.reason in allowed
    else:
        assert seal(envelope) == data


@given(st.data())
def test_what_opens_after_a_flipped_byte_seals_to_the_same_bytes(data):
    sealed = bytearray(seal(Envelope(300, 2, 1, facts())))
    at = data.draw(st.integers(0, len(sealed) - 1))
    sealed[at] ^= data.draw(st.integers(1, 255))
    try:
        envelope = opened(bytes(sealed))
    except RefusedMessage:
        return
    assert seal(envelope) == bytes(sealed)


@pytest.mark.parametrize("parameters", [0, 1, 10, 1000])
def test_the_limit_takes_the_largest_message_of_a_study(parameters):
    vector = np.ones(parameters, dtype=np.float32)
    largest = [
        StartTraining(STUDY, LAYOUT, vector),
        facts(name="n" * 32),
    ]
    for body in largest:
        sealed = seal(Envelope(2**64 - 1, 2**32 - 1, 2**32 - 1, body))
        assert open_envelope(sealed, limit=size_limit(parameters)).body == body


def test_a_message_over_the_limit_is_not_even_parsed():
    assert refusal(bytes(LIMIT + 1)) is Reason.TOO_LARGE
    assert refusal(bytes(LIMIT)) is Reason.MALFORMED


@pytest.mark.slow
@pytest.mark.ci
def test_50_million_parameters_pass():
    vector = np.linspace(-1, 1, 50_000_000, dtype=np.float32)
    sealed = seal(Envelope(1, 1, 1, StartTraining(STUDY, LAYOUT, vector)))
    body = open_envelope(sealed, limit=size_limit(vector.size)).body
    assert isinstance(body, StartTraining)
    assert np.array_equal(body.adapter, vector)


@pytest.mark.parametrize("address", [(-1, 0, 0), (2**64, 0, 0), (0, 2**32, 0), (0, 0, -1)])
def test_an_address_out_of_range_is_refused(address):
    with pytest.raises(RefusedMessage):
        seal(Envelope(*address, Running()))


def test_a_refusal_has_the_address_of_its_request():
    answer = opened(refuse(seal(Envelope(7, 2, 1, Running())), Reason.NOT_READY))
    assert answer == Envelope(7, 2, 1, Refusal(Reason.NOT_READY))


@pytest.mark.parametrize("request_bytes", [b"", b"\xff\xff", Writer().u64(9).done()])
def test_nonsense_is_refused_without_an_address(request_bytes):
    answer = opened(refuse(request_bytes, Reason.MALFORMED))
    assert answer == Envelope(0, 0, 0, Refusal(Reason.MALFORMED))


def test_kinds_keep_their_numbers():
    # 4, 5 and 7 were updates without masks.
    first = [1, 2, 3, 6, 8, 9, 11, 12, 13]
    assert [kind.value for kind in Kind] == [*first, *range(16, 28), *range(32, 44)]
    assert [reason.value for reason in Reason] == list(range(1, 26))


def test_importing_the_messages_loads_nothing_heavy():
    code = (
        "import privacy.wire.envelope, sys;"
        "print([m for m in ('torch', 'flwr', 'pydantic', 'grpc') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
