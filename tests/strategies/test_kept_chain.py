"""A chain in a file: it goes on as if nothing had happened, or the file is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.errors import FederationError
from privacy.secagg.keys import digest
from strategies.chain import AdapterChain
from strategies.kept_chain import KeptChain, largest_kept
from strategies.rule import UpdateRule
from tests.strategies.chains import RULE, STUDY, P, begun, link, names, scale, through

RUN = 12


def encode_chain(chain: AdapterChain) -> bytes:
    return KeptChain(RUN, chain).encode()


def decode_chain(data: bytes, study: bytes, rule: UpdateRule) -> AdapterChain:
    kept = KeptChain.decode(data, study, rule)
    assert kept.run == RUN
    return kept.chain


WHOLE = encode_chain(through(begun(), range(1, 4)))
# Where things begin: magic 16, study 32, rule 32, run 8, steps 4, phi 8, sums 32, a count 4.
STEPS, PHI, ADAPTER = 88, 92, 136
FIRST = ADAPTER + 4 * P


def read(data: bytes) -> object:
    return decode_chain(data, STUDY, RULE)


def signed(body: bytes) -> bytes:
    """Bytes whose last digest is right."""
    return body + digest(b"adapter chain: kept", body)


@pytest.mark.parametrize("steps", [0, 1, 4])
def test_a_restart_goes_on_where_it_was(steps: int) -> None:
    chain = through(begun(), range(1, steps + 1))
    again = decode_chain(encode_chain(chain), STUDY, RULE)
    assert names(again) == names(chain)
    assert again.published.tobytes() == chain.published.tobytes()
    following = range(steps + 1, steps + 6)
    assert names(through(again, following)) == names(through(chain, following))
    assert encode_chain(through(again, following)) == encode_chain(through(chain, following))


@pytest.mark.parametrize("kind", ["momentum", "adam"])
@pytest.mark.parametrize("averaging", [None, 1.0])
def test_every_rule_is_kept(kind: str, averaging: float | None) -> None:
    rule = UpdateRule(kind, 0.1, averaging=averaging)
    chain = type(begun()).begin(STUDY, rule, np.ones(P, np.float32)).after(link(1), scale())
    data = encode_chain(chain)
    assert encode_chain(decode_chain(data, STUDY, rule)) == data


def refused(data: bytes, text: str) -> None:
    with pytest.raises(FederationError, match=text) as caught:
        read(data)
    assert "worked out again" in caught.value.hint


@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_any_changed_byte_is_refused(at: int, change: int) -> None:
    altered = bytearray(WHOLE)
    altered[at] ^= change
    refused(bytes(altered), "cannot be used")


@given(st.integers(0, len(WHOLE) - 1))
def test_a_file_that_is_cut_short_is_refused(length: int) -> None:
    refused(WHOLE[:length], "cut short")


def with_part(at: int, part: bytes) -> bytes:
    return signed(WHOLE[:at] + part + WHOLE[at + len(part) : -32])


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (WHOLE + b"\0", "cut short"),
        (signed(WHOLE[:-32] + b"\0"), "after its last field"),
        (signed(WHOLE[:-40]), "middle of a field"),
        (with_part(0, b"craftsfl chain 2"), "no chain of this version"),
        (with_part(16, bytes(32)), "another study"),
        (with_part(48, bytes(32)), "another study"),
        (with_part(PHI, b"\x7f\xf8" + bytes(6)), "NaN"),
        (with_part(PHI, b"\x7f\xf0" + bytes(6)), "not finite"),
        (with_part(ADAPTER - 4, b"\xff\xff\xff\xff"), "middle of a field"),
        (with_part(ADAPTER, np.float32(np.nan).tobytes()), "not finite"),
        (with_part(FIRST, (P - 1).to_bytes(4, "big")), "another size"),
        (with_part(FIRST + 4, np.float64(np.inf).tobytes()), "not finite"),
        (signed(WHOLE[: ADAPTER - 4] + bytes(16)), "not finite, or none"),
        (b"", "cut short"),
    ],
)
def test_a_strange_file_is_refused_even_with_a_right_digest(data: bytes, text: str) -> None:
    refused(data, text)


def test_another_studys_and_another_rules_chain_are_refused() -> None:
    for study, rule in ((bytes(32), RULE), (STUDY, UpdateRule("adam", 0.02))):
        with pytest.raises(FederationError, match="another study"):
            decode_chain(WHOLE, study, rule)


def test_the_layout_is_as_written() -> None:
    assert WHOLE[:16] == b"craftsfl chain 1"
    assert WHOLE[16:48] == STUDY
    assert WHOLE[48:80] == RULE.digest()
    assert int.from_bytes(WHOLE[80:STEPS], "big") == RUN
    assert int.from_bytes(WHOLE[STEPS:PHI], "big") == 3
    assert int.from_bytes(WHOLE[ADAPTER - 4 : ADAPTER], "big") == P
    assert len(WHOLE) == FIRST + 3 * (4 + 8 * P) + 32 <= largest_kept(P)
