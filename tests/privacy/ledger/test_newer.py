"""The rule for what a later version adds: refused by name if it is signed, damage if it is not."""

from __future__ import annotations

import pytest

from privacy.errors import LedgerError
from privacy.ledger import AttemptKey, Charge
from privacy.ledger.chain import Chain
from privacy.ledger.head import sign_head
from privacy.ledger.key import public_bytes
from privacy.ledger.records import Charged, Genesis, Intent, hash_of
from privacy.mechanisms.local import PoissonGaussian

from .ledgers import SIGNING_KEY

CHARGE = Charge(b"\1" * 32, PoissonGaussian(0.5, 6.0, 0.1, 10), 1e-5)


def chain() -> Chain:
    made = Chain(bytes(16))
    body = made.next(Genesis(public_bytes(SIGNING_KEY), "north"), 0).encode()
    made.apply(body, sign_head(SIGNING_KEY, made.ledger, 0, hash_of(body)))
    return made


def later(made: Chain) -> dict[str, bytes]:
    """Records that a later version might write."""
    charge = made.next(Charged(7), 0).encode()
    intent = made.next(Intent(AttemptKey(CHARGE.study_digest, 1, 1, 1), CHARGE), 0).encode()
    return {
        "kind": charge[:1] + b"\x08" + charge[2:],
        "version": b"\x02" + charge[1:],
        "event": intent.replace(b"poisson-gaussian", b"poisson-gaussiam"),
        "longer": charge + b"\0",
    }


@pytest.mark.parametrize("what", ["kind", "version", "event", "longer"])
@pytest.mark.parametrize("signed", [True, False])
def test_what_a_later_version_adds_is_never_skipped(what: str, signed: bool) -> None:
    made = chain()
    body = later(made)[what]
    signature = sign_head(SIGNING_KEY, made.ledger, 1, hash_of(body)) if signed else bytes(64)
    with pytest.raises(LedgerError) as refused:
        made.apply(body, signature)
    assert len(made) == 1
    assert ("a newer version wrote it" in refused.value.message) == signed
    assert ("Install" in refused.value.hint) == signed
    assert ("Restore" in refused.value.hint) != signed
