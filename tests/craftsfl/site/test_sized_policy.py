"""A policy that is sized for a study admits it, all of it, and as many more as were planned."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from client.policy import SiteRules, limits_of
from client.settings import Policy, load_policy
from craftsfl.site.joining.sized_policy import StudyPrice, loosened, policy_text, sized_policy
from privacy.budget import Book, cannot_end
from privacy.ledger import AttemptKey, Entry, State
from privacy.study.manifest import Study, load_study

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"
SAMPLES = [".", "pooled"]


@cache
def sized(folder: str, studies: int | None = None) -> tuple[Study, StudyPrice, Policy]:
    study = load_study(EXAMPLES / folder / "study.toml")
    price = StudyPrice.of(study, 500)
    lifetime = price.lifetime(price.studies if studies is None else studies)
    return study, price, sized_policy(study, price, lifetime, None)


def charged(price: StudyPrice, study: bytes) -> list[Entry]:
    charge = replace(price.charge, study_digest=study)
    return [
        Entry(AttemptKey(study, 1, number + 1, 1), charge, State.COMMITTED, number, 0.0, 0.0)
        for number in range(price.attempts)
    ]


def fits(study: Study, policy: Policy, entries: list[Entry]) -> bool:
    rules = SiteRules("harbour", study, policy)
    rules.check()
    rules.check_budget()
    allowance = Book.of(entries).allowance(limits_of(policy), rules.charges.charge)
    return cannot_end(rules.charges, allowance) is None


@pytest.mark.parametrize("folder", SAMPLES)
def test_the_sample_studies_finish_within_the_policy_that_is_sized_for_them(folder: str) -> None:
    study, price, policy = sized(folder)
    assert price.epsilon <= policy.study_epsilon < price.epsilon + 0.02
    assert fits(study, policy, [])


@pytest.mark.parametrize("folder", SAMPLES)
def test_a_second_study_like_it_fits_and_no_third(folder: str) -> None:
    study, price, policy = sized(folder, studies=2)
    first, second = (charged(price, bytes([number]) * 32) for number in (1, 2))
    assert fits(study, policy, first)
    SiteRules("harbour", study, policy).check_other_studies(first)
    assert not fits(study, policy, [*first, *second])
    loose = sized_policy(study, price, price.lifetime(3), policy)
    assert fits(study, loose, [*first, *second])


@pytest.mark.parametrize("folder", SAMPLES)
def test_the_file_says_what_the_policy_is(folder: str, tmp_path: Path) -> None:
    study, _, policy = sized(folder)
    path = tmp_path / "policy.toml"
    path.write_text(policy_text(policy, study))
    assert load_policy(path) == policy
    for line in path.read_text().splitlines():
        assert len(line) <= 100 or line.startswith(("studies", "bases", "roster"))


def test_a_later_study_only_adds(tmp_path: Path) -> None:
    """What a hospital has decided besides stays, whatever a later study is like."""
    study, price, before = sized("pooled", studies=2)
    before = before.model_copy(update={"max_colluders": 1, "max_lost_attempts": 9})
    larger = study.model_copy(
        update={"rounds": 50, "adapter": study.adapter.model_copy(update={"rank": 3})}
    )
    after = sized_policy(larger, StudyPrice.of(larger, 500), 3.0, before)
    assert after.epsilon == before.epsilon and after.delta == before.delta
    assert (after.max_rounds, after.max_rank) == (50, 3)
    assert (after.max_colluders, after.max_lost_attempts) == (1, 9)
    assert after.studies == (*before.studies, larger.digest().hex())
    words = loosened(before, after)
    assert "max_rounds 40 -> 50" in words and "studies 1 entry -> 2 entries" in words
    smaller = sized_policy(study, price, 3.0, after)
    assert (smaller.max_rounds, smaller.max_rank) == (50, 3)


def test_whoever_allows_any_goes_on_doing_so() -> None:
    study, price, before = sized("pooled")
    before = before.model_copy(update={"studies": ("any",), "bases": ("any",)})
    after = sized_policy(study, price, 5.0, before)
    assert after.studies == ("any",) and after.bases == ("any",)
