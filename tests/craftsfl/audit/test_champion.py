"""What somebody was given as the champion: its numbers are worked out again, or it says why not."""

import hashlib
from dataclasses import replace
from functools import cache

from craftsfl.audit.champion import CheckedChampion, GivenChampion, check_champion
from craftsfl.audit.replay import Replay, ReplayStart, layout_of_bundle, replay
from craftsfl.audit.verdict import verify_bundle
from model.layout import Layout
from privacy.audit.evidence import ADAPTER_FILE, Evidence, read_evidence
from privacy.audit.faults import AuditFailure, Flaw
from privacy.audit.promotions import LoggedPromotion
from tests.craftsfl.audit.made import bundle, promoted_bundle


@cache
def promoted() -> tuple[Evidence, Layout, dict[int, Replay]]:
    evidence, _ = read_evidence(promoted_bundle())
    assert evidence is not None
    layout, _ = layout_of_bundle(evidence)
    assert layout is not None
    return evidence, layout, {1: replay(evidence, 1, ReplayStart.of(evidence.study, layout))}


def adapter() -> bytes:
    return promoted()[0].files[ADAPTER_FILE]


def checked(
    given: GivenChampion, promoted_as: str = "", **changes: dict[int, Replay]
) -> tuple[CheckedChampion, list[AuditFailure]]:
    """With the log's promotion of run 1 being of this very file."""
    evidence, layout, replays = promoted()
    digest = promoted_as or given.digest
    rows = [LoggedPromotion(evidence.study.digest().hex(), 1, 1, "1", digest, back=False)]
    return check_champion(evidence, given, rows, layout, changes.get("replays", replays))


def test_a_file_is_held_against_what_its_run_came_to() -> None:
    champion, failures = checked(GivenChampion.of_file(adapter()))
    assert failures == []
    assert (champion.run, champion.recomputed) == (1, True)
    assert champion.words == (
        "It holds what run 1 came to: the start of the study and 2 opened sums, by adam."
    )


def test_a_promoted_file_with_other_numbers_is_found_out() -> None:
    """The coordinator put it into the log and into its list, and the bundle lacks it."""
    for forged in (adapter()[:-1] + b"\x7f", adapter() + b"0", b"no adapter"):
        champion, (found,) = checked(GivenChampion.of_file(forged))
        assert not champion.recomputed
        assert (found.fault, found.run) == (Flaw.ADAPTER, 1)
        assert "The champion that you were given: It " in found.words


def test_what_cannot_be_worked_out_is_said_and_passes_for_nothing() -> None:
    whole = GivenChampion.of_file(adapter())
    few = replace(promoted()[2][1], chain=None)
    for given, promoted_as, replays, words in (
        (GivenChampion("ab" * 32), "", promoted()[2], "Only its digest was told, and it is not in"),
        (whole, "cd" * 32, promoted()[2], "It was never promoted"),
        (whole, "", {}, "or run 1, is not in the bundle"),
        (whole, "", {1: few}, "0 of the 2 steps of run 1 follow"),
    ):
        champion, failures = checked(given, promoted_as, replays=replays)
        assert (champion.recomputed, failures) == (False, [])
        assert words in champion.words
    here = GivenChampion(hashlib.sha256(adapter()).hexdigest())
    assert checked(here)[0].recomputed  # the digest is enough: the file is in the bundle


def test_in_a_study_of_updates_nothing_shows_it_and_the_verdict_says_so() -> None:
    evidence, _ = read_evidence(bundle("local"))
    assert evidence is not None
    given = GivenChampion.of_file(evidence.files[ADAPTER_FILE])
    rows = [LoggedPromotion(evidence.study.digest().hex(), 1, 1, "1", given.digest, back=False)]
    champion, failures = check_champion(evidence, given, rows, None, {})
    assert failures == []
    assert "keeps no sums" in champion.words
    verdict = verify_bundle(bundle("local"), champion=given)
    assert any(
        line.startswith("The champion that you were given: ") for line in verdict.not_recomputed
    )
    assert verdict.values()["champion"] == {
        "digest": given.digest,
        "run": None,
        "recomputed": False,
        "words": "It was never promoted, so that no run is named whose numbers it would hold.",
    }
