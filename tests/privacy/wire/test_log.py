from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.wire.bodies import Body
from privacy.wire.envelope import Envelope, open_envelope, seal
from privacy.wire.log import LOG_BODIES, MAX_LOG_BYTES, NO_LOG, LogAnswer, LogFields, LogShown
from privacy.wire.reasons import RefusedMessage

SIGNATURE = bytes([0xAA]) * 64
FIELDS = LogFields(b"h", b"cc", b"")
KNOWN: list[tuple[Body, str]] = [
    (
        LogShown(bytes([0x11]) * 32, 258, FIELDS, SIGNATURE),
        "11" * 32  # the study
        + "0000000000000102"  # since
        + "000168"  # head
        + "00026363"  # checkpoint
        + "0000"  # cosignature
        + "aa" * 64,
    ),
    (
        LogAnswer(7, bytes([0x22]) * 32, 133, FIELDS, SIGNATURE),
        "0000000000000007"  # size
        + "22" * 32  # root
        + "0085"  # check
        + "000168"
        + "00026363"
        + "0000"
        + "aa" * 64,
    ),
]


@pytest.mark.parametrize(("body", "expected"), KNOWN)
def test_known_bytes(body: Body, expected: str) -> None:
    assert body.encode().hex() == expected
    assert type(body).decode(body.encode()) == body
    envelope = Envelope(1, 0, 0, body)
    assert open_envelope(seal(envelope), limit=10_000).body == body
    for bad in (body.encode()[:-1], body.encode() + b"\0", b""):
        with pytest.raises(RefusedMessage):
            type(body).decode(bad)


def test_there_is_a_known_answer_for_every_kind() -> None:
    assert {body.KIND for body, _ in KNOWN} == LOG_BODIES.keys()


@given(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=40))
def test_fields_survive_the_way(head: bytes, checkpoint: bytes, cosignature: bytes) -> None:
    shown = LogShown(bytes(32), 0, LogFields(head, checkpoint, cosignature))
    assert LogShown.decode(shown.encode()) == shown
    assert bool(shown.log) == bool(head + checkpoint + cosignature)


def test_a_field_that_is_too_long_is_refused() -> None:
    with pytest.raises(RefusedMessage):
        LogShown(bytes(32), 0, LogFields(bytes(MAX_LOG_BYTES + 1))).encode()
    raw = bytearray(LogShown(bytes(32), 0, NO_LOG).encode())
    raw[40:42] = (MAX_LOG_BYTES + 1).to_bytes(2, "big")
    with pytest.raises(RefusedMessage):
        LogShown.decode(bytes(raw) + bytes(MAX_LOG_BYTES + 1))
