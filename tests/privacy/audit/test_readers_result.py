"""What leaves a readers' study: one file, signed, with one meaning."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from privacy.audit.readers_result import ReadersInterval, SignedReaders
from privacy.errors import AuditError
from privacy.identity import Identity

KEY = Identity.from_seed(b"ada".ljust(32))
RESULT = SignedReaders(
    signer="ada",
    key="a" * 64,
    adapter="b" * 64,
    study="c" * 64,
    readers=3,
    questions=600,
    missing=2,
    told_apart=ReadersInterval(0.5, 0.45, 0.55, 240),
    preferred=None,
    time=1,
).signed_with(KEY)


def test_it_comes_back_as_it_was_signed() -> None:
    assert SignedReaders.decode(RESULT.encode()) == RESULT
    assert RESULT.is_signed_by(KEY.public)
    assert not RESULT.is_signed_by(Identity.from_seed(b"ben".ljust(32)).public)


@pytest.mark.parametrize(
    "changes",
    [
        {"signer": "ben"},
        {"key": "d" * 64},
        {"adapter": "d" * 64},
        {"study": "d" * 64},
        {"readers": 4},
        {"questions": 601},
        {"missing": 0},
        {"told_apart": ReadersInterval(0.5, 0.45, 0.54, 240)},
        {"preferred": ReadersInterval(0.9, 0.8, 0.95, 60)},
        {"time": 2},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_the_signature_covers_every_field(changes: dict[str, object]) -> None:
    assert not replace(RESULT, **changes).is_signed_by(KEY.public)  # type: ignore[arg-type]


def spoiled(**changes: object) -> bytes:
    held = json.loads(RESULT.encode())
    held["result"] |= changes
    return json.dumps(held, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff",
        RESULT.encode() + b"\n",
        RESULT.encode()[:-2] + b"}",
        spoiled(version=2),
        spoiled(adapter="B" * 64),
        spoiled(adapter=3),
        spoiled(readers=True),
        spoiled(readers=-1),
        spoiled(readers=3.0),
        spoiled(told_apart=[0.5, 0.4, 0.6, 3]),
        spoiled(told_apart={"value": "0.5", "low": 0.4, "high": 0.6, "judgements": 3}),
        spoiled(told_apart={"value": 0.5, "low": 0.4, "high": 0.6, "judgements": 3.0}),
        spoiled(more=1),
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(AuditError, match="not a signed result of a readers' study"):
        SignedReaders.decode(data)
