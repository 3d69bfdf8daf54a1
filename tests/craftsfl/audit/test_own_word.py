"""The coordinator's own word against what is signed, check by check."""

from dataclasses import replace

import pytest

from privacy.audit.checks.log_facts import check_facts, logged_recipes, sums_taken_back
from privacy.audit.checks.promotions import check_promotions, promotion_notes
from privacy.audit.checks.record import check_record
from privacy.audit.checks.steps import LayoutDigests, end_notes, sessions_of
from privacy.audit.environment import encode_environment, read_environment
from privacy.audit.evidence import Evidence
from privacy.audit.faults import Flaw
from privacy.errors import AuditError
from privacy.log.entries import EntryKind, LogFacts
from privacy.log.replay import LogReplay
from privacy.secagg.roster import propose_roster
from privacy.study.promotion import Promotion
from tests.craftsfl.audit.made import evidence_of, log_of, promoted_bundle


def evidence() -> Evidence:
    return evidence_of(promoted_bundle())


def log() -> LogReplay:
    return log_of(promoted_bundle())


def with_facts(*more: tuple[EntryKind, LogFacts]) -> LogReplay:
    return replace(log(), facts=[*log().facts, *more])


def a_step() -> LogFacts:
    return next(said for kind, said in log().facts if kind is EntryKind.STEP)


def test_a_sum_that_the_coordinator_took_back_is_told_and_no_failure() -> None:
    """All sites said that it does not verify; the step was run again. Both are in the log."""
    first = {**a_step(), "attempt": 7, "opened": "ab" * 32}
    replay = replace(log(), facts=[(EntryKind.STEP, first), *log().facts])
    assert list(check_facts(evidence(), replay)) == []
    (line,) = sums_taken_back(evidence(), replay)
    assert "attempt 7: the log names its sum" in line
    # The other way round, the sum in the bundle is the one that nobody took.
    later = with_facts((EntryKind.STEP, first))
    assert {one.fault for one in check_facts(evidence(), later)} == {Flaw.LOG_RECORD}


def test_a_step_of_a_run_that_is_not_here_is_one_that_was_hidden() -> None:
    hidden = with_facts((EntryKind.STEP, {**a_step(), "run": 2}))
    words = [one.words for one in check_facts(evidence(), hidden)]
    assert words == [
        "The log has a run that the bundle lacks.",
        "The bundle lacks this step's sum.",
    ]


def test_a_refusal_in_the_log_is_the_one_in_the_record() -> None:
    run = evidence().runs[1]
    said = {"study": evidence().study.digest().hex(), "run": 1, "step": 1, "attempt": 1}
    said |= {"site": "site-002", "reason": "It was away."}
    replay = with_facts((EntryKind.REFUSAL, said))
    (found,) = check_facts(evidence(), replay)
    assert (found.fault, found.site) == (Flaw.LOG_RECORD, "site-002")
    told = replace(run.record, refusals=(("site-002", "It was away."),))
    honest = replace(evidence(), runs={1: replace(run, record=told)})
    assert list(check_facts(honest, replay)) == []
    assert list(check_record(honest)) == []


def test_strangers_who_were_refused_are_no_alarm() -> None:
    """A node that may not speak for its site, and a site of another study: refused, and told."""
    run = evidence().runs[1]
    refused = (("elsewhere", "It is not in the study."), ("node 17", "Its key is another."))
    told = replace(run, record=replace(run.record, refusals=refused))
    assert list(check_record(replace(evidence(), runs={1: told}))) == []


def test_no_session_goes_back_to_a_roster_whose_keys_were_given_up() -> None:
    old = evidence().rosters[0]
    newer = propose_roster(old.roster.members, old.roster.quorum, predecessor=old.roster)
    stored = evidence().runs[1].sessions[0]
    offer = replace(stored.offer, roster_digest=newer.roster.digest(), session=1)
    sessions = (replace(stored, offer=offer), stored)
    run = replace(evidence().runs[1], sessions=sessions)
    harmed = replace(evidence(), rosters=(old, newer), runs={1: run})
    _, found = sessions_of(harmed, 1, LayoutDigests(bytes(32), bytes(32)))
    assert any("is of roster 1, and an earlier one of 2" in one.words for one in found)


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"epsilon": 0.01}, "costs ε"),
        ({"confirmations": 3}, "was confirmed by 2 of the 3 sites it takes"),
    ],
)
def test_a_promotion_met_what_the_manifest_demands(wanted: dict[str, float], words: str) -> None:
    run = evidence().runs[1]
    assert run.closing is not None
    few = replace(run, closing=replace(run.closing, confirmed=run.closing.confirmed[:2]))
    study = evidence().study.model_copy(update={"promotion": Promotion.model_validate(wanted)})
    harmed = replace(evidence(), study=study, runs={1: few})
    _, failures = check_promotions(harmed, None)
    assert any(words in one.words for one in failures)
    assert list(end_notes(harmed, 1)) == [
        "Run 1: 1 of the 3 sites of its last step have not signed what it came to."
    ]


def test_what_a_bundle_cannot_show_of_a_promotion_is_said() -> None:
    rows, _ = check_promotions(evidence(), log())
    found = [row.promotion for row in rows]
    assert list(promotion_notes(evidence(), found)) == []
    files = {name: data for name, data in evidence().files.items() if "adapter" not in name}
    lines = list(promotion_notes(replace(evidence(), files=files), found))
    assert len(lines) == len(found)
    assert all("is the coordinator's word" in line for line in lines)
    shown = evidence().study.model_copy(update={"promotion": Promotion(improves=("denoising",))})
    (line,) = promotion_notes(replace(evidence(), study=shown), found)
    assert "figures of quality" in line


def test_the_recipe_is_told_as_the_log_has_it() -> None:
    assert "Python 3." in logged_recipes(evidence(), log())[1]


def test_an_environment_is_versions_and_nothing_else() -> None:
    said = {"code": "ab" * 32, "craftsfl": "1", "python": "3.11", "packages": {"numpy": "2"}}
    assert read_environment(encode_environment(said))["numpy"] == "2"
    for odd in (
        *({**said, "more": "x"}, {**said, "code": 1}, {**said, "packages": {"python": "4"}}),
        *({**said, "packages": {"numpy": "2" * 70_000}}, {**said, "packages": [1]}),
    ):
        with pytest.raises(AuditError):
            read_environment(encode_environment(odd))
