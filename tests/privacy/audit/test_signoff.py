"""Who has signed for a bundle, and for an adapter."""

import dataclasses

import pytest

from privacy.audit.signoff import SignedVerdict, signed_off
from privacy.config import check
from privacy.errors import AuditError, ConfigError
from privacy.identity import Identity
from privacy.study.manifest import Study
from tests.pooled_study import pooled_study, pooled_values

KEYS = {name: Identity.from_seed(name.encode().ljust(32)) for name in ("ada", "ben", "cem")}
BUNDLE, ADAPTER = "a" * 64, "b" * 64


def study(needed: int = 2, names: tuple[str, ...] = ("ada", "ben", "cem")) -> Study:
    keys = [{"name": name, "key": KEYS[name].public.hex()} for name in names]
    return check({**pooled_values(), "auditors": {"needed": needed, "keys": keys}}, Study, where="")


def signed(name: str, of: Study, **changes: object) -> SignedVerdict:
    values = {"bundle": BUNDLE, "study": of.digest().hex(), "adapter": ADAPTER, **changes}
    made = SignedVerdict(auditor=name, run=1, not_recomputed=0, time=1, **values)  # type: ignore[arg-type]
    return SignedVerdict.signed(made, KEYS[name])


def test_auditors_are_part_of_the_study_and_others_keep_their_digest() -> None:
    assert study().digest() != pooled_study().digest()
    assert study(1).digest() != study(2).digest()
    values = pooled_study().model_dump(mode="json")
    assert values["auditors"] is None
    with pytest.raises(ConfigError, match=r"auditors\.needed is 4, and 3 are listed"):
        study(4)
    with pytest.raises(ConfigError, match="two auditors have the same names"):
        study(1, ("ada", "ada"))
    twice = [{"name": name, "key": KEYS["ada"].public.hex()} for name in ("ada", "ben")]
    with pytest.raises(ConfigError, match="two auditors have the same keys"):
        check({**pooled_values(), "auditors": {"needed": 2, "keys": twice}}, Study, where="")


def test_those_who_are_named_count_once() -> None:
    own = study()
    both = [signed("ada", own), signed("ben", own)]
    for digest in (BUNDLE, ADAPTER):
        assert signed_off(own, digest, both) == {"ada", "ben"}
    assert signed_off(own, BUNDLE, [both[0], both[0]]) == {"ada"}


def test_nothing_else_counts() -> None:
    own = study()
    good = signed("ada", own)
    odd = [
        signed("ada", own, bundle="c" * 64, adapter=""),
        signed("ada", study(1)),
        dataclasses.replace(good, signature=bytes(64)),
        dataclasses.replace(good, time=2),
        dataclasses.replace(signed("ben", own), auditor="ada"),
        dataclasses.replace(good, auditor="somebody"),
    ]
    assert signed_off(own, BUNDLE, odd) == frozenset()
    assert signed_off(own, "", [signed("ada", own, adapter="")]) == frozenset()
    assert signed_off(pooled_study(), BUNDLE, [good]) == frozenset()
    assert signed_off(pooled_study(), BUNDLE, []) == frozenset()


def test_a_signed_verdict_as_bytes() -> None:
    one = signed("ada", study())
    data = one.encode()
    assert SignedVerdict.decode(data) == one
    for at in range(0, len(data), 7):
        other = bytearray(data)
        other[at] ^= 4
        try:
            found = SignedVerdict.decode(bytes(other))
        except AuditError:
            continue
        assert not found.is_signed_by(KEYS["ada"].public)
