from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privacy.errors import LedgerError
from privacy.ledger import AttemptKey, Charge, State, StepMark
from privacy.ledger.chain import Chain
from privacy.ledger.head import sign_head
from privacy.ledger.key import public_bytes
from privacy.ledger.records import (
    Charged,
    Content,
    Genesis,
    Intent,
    Record,
    Sent,
    SessionBegun,
    hash_of,
)
from privacy.mechanisms.local import PoissonGaussian

from .ledgers import SIGNING_KEY

OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
LEDGER = b"\x11" * 16
CHARGE = Charge(b"\1" * 32, PoissonGaussian(0.5, 6.0, 0.1, 10), 1e-5)
MARK = StepMark(b"\x99" * 32, 4, (1, 2, 3))
GENESIS = Genesis(public_bytes(SIGNING_KEY), "north")


def intent(attempt: int) -> Intent:
    return Intent(AttemptKey(CHARGE.study_digest, 1, 1, attempt), CHARGE)


def signed(record: Record, key: Ed25519PrivateKey = SIGNING_KEY) -> tuple[bytes, bytes]:
    body = record.encode()
    return body, sign_head(key, record.ledger, record.sequence, hash_of(body))


def chain_of(*contents: Content) -> Chain:
    chain = Chain(LEDGER)
    for time, content in enumerate(contents):
        chain.apply(*signed(chain.next(content, time * 1_000_000)))
    return chain


@pytest.fixture
def chain() -> Chain:
    """Genesis, two intents, the first of them charged."""
    return chain_of(GENESIS, intent(1), intent(2), Charged(1))


def test_what_the_records_add_up_to(chain: Chain) -> None:
    first, second = chain.entries
    assert (first.state, first.sequence, first.intent_time, first.charge_time) == (
        *(State.COMMITTED, 1),
        *(1.0, 3.0),
    )
    assert (second.state, second.sequence, second.charge_time) == (State.INTENT, 2, None)
    assert (len(chain), chain.head.sequence, chain.steps_back) == (4, 3, 0)
    chain.head.verify()


WRONG = {
    "repeats its number": (lambda r: replace(r, sequence=r.sequence - 1), "calls itself record 3"),
    "leaves one out": (lambda r: replace(r, sequence=r.sequence + 1), "calls itself record 5"),
    "from elsewhere": (lambda r: replace(r, ledger=bytes(16)), "belongs to another ledger"),
    "other past": (lambda r: replace(r, previous=bytes(32)), "does not follow"),
    "second genesis": (lambda r: replace(r, content=GENESIS), "comes first, and nowhere else"),
    "attempt repeated": (lambda r: replace(r, content=intent(1)), "repeats an attempt"),
    "charged twice": (lambda r: replace(r, content=Charged(1)), "twice"),
    "charged unbegun": (lambda r: replace(r, content=Charged(3)), "never begun"),
    "sent unbegun": (lambda r: replace(r, content=Sent(3, bytes(32))), "never begun"),
    "sent uncharged": (lambda r: replace(r, content=Sent(2, bytes(32))), "was not charged"),
    "session 0": (
        lambda r: replace(r, content=SessionBegun(CHARGE.study_digest, 1, 0, bytes(32))),
        "not above an earlier one",
    ),
}


@pytest.mark.parametrize("fault", WRONG)
def test_an_illegal_record_is_refused_and_changes_nothing(chain: Chain, fault: str) -> None:
    change, words = WRONG[fault]
    before = chain.entries, chain.head, chain.time, len(chain)
    with pytest.raises(LedgerError, match=f"Record 4 .*{words}"):
        chain.apply(*signed(change(chain.next(intent(3), 0))))
    assert (chain.entries, chain.head, chain.time, len(chain)) == before
    chain.apply(*signed(chain.next(intent(3), 0)))


def test_a_record_of_another_key_or_unsigned_is_refused(chain: Chain) -> None:
    record = chain.next(intent(3), 0)
    for signature in (signed(record, OTHER_KEY)[1], bytes(64), b""):
        with pytest.raises(LedgerError, match=r"Record 4 .*signature"):
            chain.apply(record.encode(), signature)
    assert len(chain) == 4


def test_a_ledger_begins_with_its_genesis() -> None:
    with pytest.raises(LedgerError, match="comes first"):
        chain_of(intent(1))
    with pytest.raises(LedgerError, match="no records"):
        _ = Chain(LEDGER).head


def test_a_genesis_signed_by_another_key_is_refused() -> None:
    chain = Chain(LEDGER)
    with pytest.raises(LedgerError, match="Record 0"):
        chain.apply(*signed(chain.next(GENESIS, 0), OTHER_KEY))


def test_heads_of_its_past_are_its_own(chain: Chain) -> None:
    shorter = chain_of(GENESIS, intent(1))
    chain.check_head(shorter.head, origin="others saw")
    chain.check_head(chain.head, origin="others saw")
    with pytest.raises(LedgerError, match=r"others saw \(record 3 of .*newer than this ledger"):
        shorter.check_head(chain.head, origin="others saw")


def test_a_head_of_another_course_is_found(chain: Chain) -> None:
    fork = chain_of(GENESIS, intent(1), intent(7))
    with pytest.raises(LedgerError, match="went on from an older copy"):
        chain.check_head(fork.head, origin="others saw")
    with pytest.raises(LedgerError, match="another ledger"):
        chain.check_head(_foreign().head, origin="others saw")
    with pytest.raises(LedgerError, match="signature of the head"):
        chain.check_head(replace(fork.head, hash=bytes(32)), origin="others saw")


def test_a_clock_that_goes_back_is_counted(chain: Chain) -> None:
    chain.apply(*signed(chain.next(intent(3), 1)))
    assert (chain.steps_back, chain.entries[-1].intent_time) == (1, 1e-6)


def _foreign() -> Chain:
    chain = Chain(bytes(16))
    chain.apply(*signed(chain.next(GENESIS, 0)))
    return chain


def test_two_vectors_of_one_attempt_are_refused(chain: Chain) -> None:
    chain.apply(*signed(chain.next(Sent(1, b"\xaa" * 32), 0)))
    assert chain.entries[0].sent == b"\xaa" * 32
    before = chain.entries, len(chain)
    with pytest.raises(LedgerError, match="two vectors of one attempt"):
        chain.apply(*signed(chain.next(Sent(1, b"\xbb" * 32), 0)))
    assert (chain.entries, len(chain)) == before


def test_sessions_of_a_study_are_numbered_upwards(chain: Chain) -> None:
    mine, other = CHARGE.study_digest, bytes(32)
    assert chain.session(mine) is None
    chain.apply(*signed(chain.next(SessionBegun(mine, 1, 5, b"\xaa" * 32), 0)))
    chain.apply(*signed(chain.next(SessionBegun(other, 1, 1, b"\xbb" * 32), 0)))
    for number in (1, 4, 5):
        with pytest.raises(LedgerError, match="not above an earlier one"):
            chain.apply(*signed(chain.next(SessionBegun(mine, 2, number, b"\xcc" * 32), 0)))
    assert chain.session(mine) == SessionBegun(mine, 1, 5, b"\xaa" * 32)


def test_an_intent_may_say_for_which_step_it_is(chain: Chain) -> None:
    labelled = replace(intent(3), mark=MARK)
    chain.apply(*signed(chain.next(labelled, 0)))
    assert [entry.mark for entry in chain.entries] == [None, None, MARK]


def bodies_of(*contents: Content) -> list[bytes]:
    chain, found = Chain(LEDGER), []
    for time, content in enumerate(contents):
        body, signature = signed(chain.next(content, time * 1_000_000))
        chain.apply(body, signature)
        found.append(body)
    return found


def test_one_signature_of_the_newest_record_covers_all_before_it(chain: Chain) -> None:
    bodies = bodies_of(GENESIS, intent(1), intent(2), Charged(1))
    found = Chain.under(chain.head, bodies)
    assert (found.head, found.entries) == (chain.head, chain.entries)


def test_a_head_that_is_not_the_ledgers_own_covers_nothing(chain: Chain) -> None:
    bodies, head = bodies_of(GENESIS, intent(1), intent(2), Charged(1)), chain.head
    theirs = sign_head(OTHER_KEY, LEDGER, head.sequence, head.hash)
    wrong = {
        "is wrong": (replace(head, signature=bytes(64)), bodies),
        "another key than its own": (
            replace(head, public_key=public_bytes(OTHER_KEY), signature=theirs),
            bodies,
        ),
        "not that of its newest record": (head, bodies[:-1]),
        "damaged or was changed": (head, [*bodies[:2], bodies[3]]),
    }
    for words, (signed_head, shown) in wrong.items():
        with pytest.raises(LedgerError, match=words):
            Chain.under(signed_head, shown)
