"""What an auditor is told although nothing fails: failed trials, lost ledgers, clocks."""

import math
from collections.abc import Iterable
from dataclasses import replace
from itertools import repeat

import pytest

from craftsfl.audit.tampering.draft import Draft
from craftsfl.audit.verdict import AuditVerdict, verify_bundle
from privacy.audit.checks.generator import check_generators, trial_faults
from privacy.audit.checks.log import ENTRIES_FILE, _taken_over
from privacy.audit.checks.notices import clock_notes, independence_notes, recovery_notes
from privacy.audit.evidence import Evidence
from privacy.audit.faults import Flaw, listed_names
from privacy.audit.packs import unpacked_rows
from privacy.ledger import Charge
from privacy.ledger.anchors import Anchors
from privacy.ledger.attempts import AttemptKey, charged
from privacy.ledger.chain import Chain
from privacy.ledger.records import Charged, Content, GeneratorTried, Intent
from privacy.log.entries import LogEntry
from privacy.log.replay import LogReplay
from privacy.study.auditors import Auditors
from privacy.wire.checkpoint import Checkpoint
from tests.craftsfl.audit.made import bundle, evidence_of, keys, log_of

SITE = "site-001"
GOOD = GeneratorTried(True, True, 1 << 19, 1 << 16, variance=1.0, shared=0.0, fit=0.0)
FAILED = replace(GOOD, passed=False, known=False)


def evidence() -> Evidence:
    return evidence_of(bundle("pooled"))


def log() -> LogReplay:
    return log_of(bundle("pooled"))


def with_chain(chain: Chain) -> Evidence:
    return replace(evidence(), ledgers={**evidence().ledgers, SITE: chain})


def ended_with(*trials: GeneratorTried) -> AuditVerdict:
    """The site's ledger goes on with these trials; the site signs that."""
    draft, own = Draft.of(bundle("pooled"), "s"), keys("pooled")
    draft.rewrite(SITE, [*draft.contents(SITE), *trials], own.ledgers[SITE])
    draft.restate(SITE, own.identities[SITE])
    return verify_bundle(draft.sealed())


def test_a_valid_study_has_nothing_to_be_noted() -> None:
    for data in (bundle("pooled"), bundle("local")):
        assert verify_bundle(data).notices == []


def test_a_failed_trial_after_which_nothing_was_charged_is_a_notice() -> None:
    verdict = ended_with(FAILED, FAILED, GOOD)
    assert verdict.passed, verdict.failures
    (line,) = verdict.notices
    assert line.startswith(f"{SITE}: The trial of its generator of noise failed (record ")
    assert "other answers than always for a known seed" in line
    assert "Nothing was charged before one passed." in line
    assert verdict.values()["notices"] == [line]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (replace(GOOD, passed=False), "its agent says so"),
        (replace(GOOD, draws=0), "0 draws, of 65536"),
        (replace(GOOD, variance=0.25), "a variance of 0.25"),
        (replace(GOOD, variance=math.nan), "a variance of nan"),
        (replace(GOOD, shared=-8.0), "the noise of two seeds is alike"),
        (replace(GOOD, fit=math.inf), "another distribution"),
    ],
)
def test_whether_a_trial_passed_is_worked_out_of_its_figures(
    said: GeneratorTried, words: str
) -> None:
    assert any(words in one for one in trial_faults(said))
    assert trial_faults(GOOD) == []


def chain_of(
    contents: Iterable[Content], times: Iterable[int] = repeat(0), ledger: bytes = b""
) -> Chain:
    """A ledger of these contents, unsigned; the site's own unless another one is named."""
    chain = Chain(ledger or evidence().ledgers[SITE].ledger)
    for content, time in zip(contents, times, strict=False):
        chain.add_unsigned(chain.next(content, time).encode())
    return chain


def spent(count: int, study: bytes | None = None) -> tuple[Charge, ...]:
    (charge,) = set(charged(evidence().ledgers[SITE].entries))
    return (charge if study is None else replace(charge, study_digest=study),) * count


def recovered(inherited: tuple[Charge, ...], lost: Checkpoint) -> Chain:
    """A ledger that stands for the lost one."""
    anchors = Anchors(keys("pooled").identities[SITE], replaced=lost, inherited=inherited)
    public = keys("pooled").ledgers[SITE].public_key().public_bytes_raw()
    return chain_of(anchors.first_records(bytes(16), public, SITE), ledger=bytes(16))


def test_a_ledger_whose_trial_is_missing_or_of_something_else_is_named() -> None:
    contents = Draft.of(bundle("pooled"), "s").contents(SITE)
    other = replace(GOOD, deviation=5 << 16)
    odd = [other if isinstance(one, GeneratorTried) else one for one in contents]
    failures, (line,) = check_generators(with_chain(chain_of(odd)))
    assert failures == []
    assert f"at another deviation than 8 grid units, which the study draws at, by {SITE}." in line
    key = AttemptKey(evidence().study.digest(), 1, 1, 1)
    none = chain_of([contents[0], Intent(key, spent(1)[0]), Charged(1)])
    failures, (line,) = check_generators(with_chain(none))
    assert failures == []
    assert f"before the study's first charge in the ledger of {SITE}." in line


def test_what_a_lost_ledger_had_charged_is_its_sites_word_and_said_to_be() -> None:
    lost = Checkpoint(b"lost" * 4, 40, bytes(32))
    (line,) = recovery_notes(with_chain(recovered((*spent(2), *spent(3, bytes(32))), lost)), log())
    assert line.startswith(f"{SITE}: its ledger stands for a lost one, 6c6f7374 of 40 records.")
    assert "takes over 2 charges of this study and 3 of other studies" in line
    assert "is the site's own word: no record of it is in the log." in line
    known = replace(lost, ledger=evidence().ledgers[SITE].ledger)
    (line,) = recovery_notes(with_chain(recovered(spent(2), known)), log())
    assert "but for this study's, which the log has up to record" in line


def test_a_ledger_that_takes_over_less_than_the_log_has_is_found() -> None:
    whole = len(charged(evidence().ledgers[SITE].entries))
    lost = Checkpoint(evidence().ledgers[SITE].ledger, 40, bytes(32))
    assert not list(_taken_over(with_chain(recovered(spent(whole), lost)), log()))
    (found,) = _taken_over(with_chain(recovered(spent(whole - 1), lost)), log())
    assert (found.fault, found.site) == (Flaw.LOG_LEDGER, SITE)
    assert f"takes over {whole - 1} charges of the study" in found.words


def test_times_that_go_back_are_said_and_no_failure() -> None:
    contents = Draft.of(bundle("pooled"), "s").contents(SITE)
    back = chain_of(contents, [5_000_000_000, *range(len(contents))])
    run = evidence().runs[1]
    first, *rest = run.record.attempts
    record = replace(run.record, attempts=(replace(first, started=9e9, finished=1.0), *rest))
    harmed = replace(with_chain(back), runs={1: replace(run, record=record)})
    ledgers, entries, attempts = clock_notes(harmed, replace(log(), steps_back=3))
    assert f"Times of records go back 1 times in the ledgers of {SITE}." in ledgers
    assert "Times of the log's entries go back 3 times." in entries
    assert attempts.startswith("Run 1: 2 attempts begin before the one before them, or end before")
    said = evidence().statements[SITE]
    early = replace(said, statement=replace(said.statement, time=0))
    (line,) = clock_notes(replace(evidence(), statements={SITE: early}), None)
    assert "is dated before the newest record that it is about" in line


def test_the_log_counts_how_often_its_clock_went_back() -> None:
    entries = unpacked_rows(evidence().files[ENTRIES_FILE])
    replay = LogReplay(log().coordinator)
    assert log().steps_back == 0
    for at, entry in enumerate(map(LogEntry.decode, entries)):
        replay.take(replace(entry, time=entry.time - at % 2).encode())
    assert replay.steps_back > 0
    assert replay.size == len(entries)


def test_an_auditor_who_is_judged_is_named() -> None:
    own, pooled = keys("pooled").identities[SITE].public.hex(), evidence().study.pooled
    assert pooled is not None
    listed = {
        "needed": 1,
        "keys": [
            {"name": "dr-weiss", "key": "ab" * 32},
            {"name": "inner", "key": own},
            {"name": "chief", "key": pooled.coordinator_key},
        ],
    }
    study = evidence().study.model_copy(update={"auditors": Auditors.model_validate(listed)})
    inner, chief = independence_notes(replace(evidence(), study=study))
    assert f"The key of the auditor inner is that of {SITE}, whom auditors judge." in inner
    assert "The key of the auditor chief is that of the coordinator" in chief
    assert not list(independence_notes(evidence()))


def test_many_names_are_counted() -> None:
    assert listed_names(["a", "b"]) == "a, b"
    assert listed_names(list("abcdefg")) == "a, b, c, d, e and 2 more"
