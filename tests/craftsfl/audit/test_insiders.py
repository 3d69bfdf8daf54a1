"""Insiders with the right keys, and bundles that are made to take long: check by check."""

import json
from dataclasses import replace
from functools import cache

from bench.audit.made import made_auditor
from craftsfl.audit.replay import ReplayStart, check_logged_models, layout_of_bundle, replay
from craftsfl.audit.tampering.draft import Draft
from craftsfl.audit.verdict import verify_bundle
from privacy.audit.checks.costs import MOST_EVENTS, check_costs
from privacy.audit.checks.log_facts import logged_recipes
from privacy.audit.checks.promotions import check_promotions
from privacy.audit.checks.steps import OpenSession, check_requests, sessions_of
from privacy.audit.checks.witnesses import _MOST_SEARCHES, ShownLog
from privacy.audit.evidence import Evidence
from privacy.audit.faults import Flaw
from privacy.audit.promotions import signoff_facts
from privacy.audit.signoff import SignedVerdict
from privacy.ledger import Charge
from privacy.ledger.anchors import Anchors
from privacy.ledger.attempts import AttemptKey
from privacy.ledger.chain import Chain
from privacy.ledger.records import Charged, Intent
from privacy.log.checkpoints import Cosignature, TreeHead
from privacy.log.entries import EntryKind, LogFacts
from privacy.log.replay import LogReplay
from privacy.mechanisms.registry import event_from_json
from privacy.study.auditors import Auditors
from privacy.wire.checkpoint import Checkpoint
from tests.craftsfl.audit.made import evidence_of, keys_of, log_of, promoted, promoted_bundle

SITE = "site-001"


def evidence() -> Evidence:
    return evidence_of(promoted_bundle())


def log() -> LogReplay:
    return log_of(promoted_bundle())


@cache
def start() -> ReplayStart:
    layout, _ = layout_of_bundle(evidence())
    assert layout is not None
    return ReplayStart.of(evidence().study, layout)


def the_session() -> tuple[bytes, OpenSession]:
    held, failures = sessions_of(evidence(), 1, start().digests)
    assert failures == []
    ((sd, session),) = held.items()
    return sd, session


def test_a_session_has_no_member_that_the_study_has_not() -> None:
    """A shadow site of the roster would hold the secret that proves every sum."""
    study = evidence().study
    fewer = study.model_copy(update={"sites": study.sites[:2]})
    _, failures = sessions_of(replace(evidence(), study=fewer), 1, start().digests)
    assert (Flaw.SESSION, study.sites[2].name) in {(one.fault, one.site) for one in failures}


def test_nothing_leaves_for_a_session_that_has_ended() -> None:
    sd, session = the_session()
    ended = replace(session, offer=replace(session.offer, expiry=1))
    words = [one.words for one in check_requests(evidence(), 1, {sd: ended})]
    assert words == ["Its session had ended when answers left."] * 2
    assert list(check_requests(evidence(), 1, {sd: session})) == []


def test_a_run_begins_from_one_thing_however_often_that_is_said() -> None:
    (said, *_) = (said for kind, said in log().facts if kind is EntryKind.MODEL)
    again = replay(evidence(), 1, start())
    for more, found in ((said, 0), ({**said, "base": "ab" * 32}, 1)):
        told = replace(log(), facts=[(EntryKind.MODEL, more), *log().facts])
        failures = list(check_logged_models(evidence(), told, 1, start().digests, again))
        assert [one.fault for one in failures] == [Flaw.LOG_RECORD] * found


def test_all_versions_of_a_run_are_told() -> None:
    other: LogFacts = {"study": evidence().study.digest().hex(), "run": 1, "release": "0.0.9"}
    told = replace(log(), facts=[(EntryKind.RECIPE, other), *log().facts])
    assert logged_recipes(evidence(), told)[1].startswith("craftsfl 0.0.9, Python None; then ")


def signed(adapter: str, bundle: str = "0" * 64, study: str = "") -> SignedVerdict:
    own = study or evidence().study.digest().hex()
    made = SignedVerdict("dr-weiss", bundle, own, 1, adapter, 0, 0)
    return SignedVerdict.signed(made, made_auditor("promoted"))


def rests_on(*verdicts: tuple[str, str], needed: int = 1) -> bool:
    """Whether a promotion holds of which the log has these verdicts, of (adapter, bundle)."""
    listed = evidence().study.auditors
    assert listed is not None
    keys = [listed.keys[0].model_dump(), {"name": "ada", "key": "ab" * 32}]
    auditors = Auditors.model_validate({"needed": needed, "keys": keys})
    study = evidence().study.model_copy(update={"auditors": auditors})
    of = study.digest().hex()  # another study than that of the bundle
    facts = [(EntryKind.SIGNOFF, signoff_facts(signed(*one, study=of))) for one in verdicts]
    facts += [
        (kind, {**said, "study": of}) for kind, said in log().facts if kind is EntryKind.PROMOTION
    ]
    _, failures = check_promotions(replace(evidence(), study=study), replace(log(), facts=facts))
    return not any(f"of the {needed} auditors' signatures" in one.words for one in failures)


def test_one_auditor_is_one_auditor_and_signs_for_one_adapter() -> None:
    own, bundle = evidence().runs[1].record.released, "0" * 64
    assert rests_on((own, bundle))
    assert not rests_on((own, bundle), needed=2)
    assert not rests_on((own, bundle), (own, "1" * 64), needed=2)  # twice, and still one
    assert not rests_on(("cd" * 32, bundle))  # of another adapter
    assert not rests_on(("", bundle))  # of a bundle without one
    assert not rests_on()


def test_a_promotion_rests_on_what_counts_for_it_however_much_was_signed() -> None:
    """The log may hold very many verdicts and promotions; their product is never formed."""
    adapter = evidence().runs[1].record.released
    elsewhere = [signed("cd" * 32, f"{n:064x}", "ee" * 32) for n in range(60)]
    own = [signed(adapter, f"{n:064x}") for n in range(60)]
    facts = [(EntryKind.SIGNOFF, signoff_facts(one)) for one in (*elsewhere, *own)]
    rows, _ = check_promotions(evidence(), replace(log(), facts=[*facts, *log().facts]))
    assert [len(row.signoffs) for row in rows] == [1, 1]


def test_what_else_was_cosigned_is_searched_for_a_few_times() -> None:
    shown = ShownLog("x")
    for size in range(5):
        shown.heads[bytes([size]) * 32] = TreeHead("x", size + 1, bytes([size]) * 32)
    (member, *_) = evidence().rosters[0].roster.members
    wrong = Cosignature(1, bytes(64)).encode()
    for _ in range(_MOST_SEARCHES + 5):
        assert "of nothing that a request showed" in shown._what_else(wrong, member.public_key)
    assert shown._searches == _MOST_SEARCHES + 5


def test_a_ledger_of_very_many_kinds_of_charges_is_too_large() -> None:
    """Each kind costs a distribution of its own, and their composition."""
    chain = Chain(evidence().ledgers[SITE].ledger)
    own = evidence().ledgers[SITE]
    old = own.entries[0].charge
    chain.add_unsigned(chain.next(own.genesis, 0).encode())
    for number in range(MOST_EVENTS + 1):
        said = json.loads(old.event.to_json()) | {"noise_multiplier": 5.0 + number / 100}
        event = event_from_json(json.dumps(said, sort_keys=True, separators=(",", ":")))
        study = bytes(31) + bytes([number % 60])
        key = AttemptKey(study, 1, number + 1, 1)
        chain.add_unsigned(chain.next(Intent(key, Charge(study, event, old.delta)), 0).encode())
        chain.add_unsigned(chain.next(Charged(len(chain) - 1), 0).encode())
    _, failures = check_costs(replace(evidence(), ledgers={SITE: chain}))
    assert [(one.fault, one.site) for one in failures] == [(Flaw.TOO_LARGE, SITE)]


def test_a_budget_holds_at_a_delta_that_is_enough_for_all_studies() -> None:
    said = evidence().statements[SITE]
    limits = replace(said.statement.limits, delta=1e-7)
    harmed = replace(said, statement=replace(said.statement, limits=limits))
    costs, failures = check_costs(replace(evidence(), statements={SITE: harmed}))
    assert [one.fault for one in failures] == [Flaw.BUDGET]
    assert "The δ of all its studies together is 1e-05; at most 1e-07" in failures[0].words
    assert costs[0].lifetime_delta == promoted().study.privacy.delta


def test_a_ledger_that_was_lost_during_the_study_lacks_its_steps() -> None:
    """Although it takes over all that was charged, and nobody cheated: the manual says so."""
    draft, own = Draft.of(promoted_bundle(), "s"), keys_of(promoted())
    old, _ = draft.ledger(SITE)
    spent = tuple(one.charge for one in draft.contents(SITE) if isinstance(one, Intent))
    lost = Checkpoint(old.ledger, old.sequence + 1, old.hash)
    anchors = Anchors(own.identities[SITE], replaced=lost, inherited=spent)
    key = own.ledgers[SITE]
    public = key.public_key().public_bytes_raw()
    draft.rewrite(SITE, anchors.first_records(bytes([1]) * 16, public, SITE), key, bytes([1]) * 16)
    draft.restate(SITE, own.identities[SITE])
    verdict = verify_bundle(draft.sealed())
    found = {one.fault for one in verdict.failures if one.site == SITE}
    assert {Flaw.LEDGER_OLDER, Flaw.NOT_CHARGED} <= found
    assert any("stands for a lost one" in line for line in verdict.notices)


def test_the_log_knows_how_far_a_ledger_was_at_every_size() -> None:
    ledger = evidence().ledgers[SITE]
    sizes = [log().records_at(ledger.ledger, size) for size in range(log().size + 1)]
    assert sizes == sorted(sizes)
    assert (sizes[0], sizes[-1]) == (0, len(ledger))
    assert log().records_at(bytes(16), log().size) == 0
