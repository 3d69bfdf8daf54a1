"""Every sample file of the repository is read by the code that reads a user's."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from client.policy import SiteRules, limits_of
from client.settings import load_policy, load_site
from privacy.budget import Book, cannot_end, to_its_end
from privacy.errors import PolicyError
from privacy.ledger import AttemptKey, Entry, State
from privacy.study.manifest import load_study
from server.settings import load_consortium

ROOT = Path(__file__).parents[1]
READERS: dict[str, Callable[[Path], object]] = {
    "study.toml": load_study,
    "site.toml": load_site,
    "policy.toml": load_policy,
    "consortium.toml": load_consortium,
}
SAMPLES = sorted(path for folder in ("docs", "docker") for path in (ROOT / folder).rglob("*.toml"))


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: str(path.relative_to(ROOT)))
def test_sample_files_are_valid(path: Path) -> None:
    READERS[path.name](path)


def test_there_is_a_sample_of_every_file() -> None:
    assert {path.name for path in SAMPLES} == set(READERS)


@pytest.mark.parametrize("folder", [".", "pooled"])
def test_the_sample_study_can_end_within_the_sample_policy(folder: str) -> None:
    """With every attempt of every round; the figure in the sample is that of the accountant."""
    text = (ROOT / "docs/examples" / folder / "study.toml").read_text()
    for rules in pair(folder):
        charges, limits = rules.charges, limits_of(rules.policy)
        allowance = Book().allowance(limits, charges.charge)
        assert cannot_end(charges, allowance) is None
        whole = to_its_end(charges, allowance).study.after
        assert 0.9 * limits.study_epsilon < whole <= limits.study_epsilon
        assert f"{charges.most} make epsilon {whole:.2f}" in text


@pytest.mark.parametrize("folder", [".", "pooled"])
def test_a_second_study_like_the_sample_can_follow_it(folder: str) -> None:
    """Each policy splits delta by plan: added up, or one of a filter over all studies."""
    for rules in pair(folder):
        rules.check()
        rules.check_budget()
        charges, limits = rules.charges, limits_of(rules.policy)
        first = replace(charges.charge, study_digest=bytes(32))
        entries = [
            Entry(AttemptKey(bytes(32), 1, number + 1, 1), first, State.COMMITTED, number, 0.0, 0.0)
            for number in range(charges.most)
        ]
        rules.check_other_studies(entries)
        allowance = Book.of(entries).allowance(limits, charges.charge)
        assert allowance.next().lifetime.spent > 3.8
        assert cannot_end(charges, allowance) is None


@pytest.mark.parametrize(("study", "policy"), [(".", "pooled"), ("pooled", ".")])
def test_a_study_of_the_other_kind_is_refused_in_words(study: str, policy: str) -> None:
    asked = load_study(ROOT / "docs/examples" / study / "study.toml")
    allowed = load_policy(ROOT / "docs/examples" / policy / "policy.toml")
    with pytest.raises(PolicyError, match="is not among `mechanisms`"):
        SiteRules("north", asked, allowed).check()


def pair(folder: str) -> list[SiteRules]:
    """The rules of every site of a sample study under the sample policy beside it."""
    study = load_study(ROOT / "docs/examples" / folder / "study.toml")
    policy = load_policy(ROOT / "docs/examples" / folder / "policy.toml")
    return [SiteRules(site.name, study, policy) for site in study.sites]


def test_every_sample_study_lies_beside_a_sample_policy() -> None:
    studies = [path for path in SAMPLES if path.name == "study.toml"]
    assert {path.parent for path in studies} == {
        ROOT / "docs/examples" / folder for folder in (".", "pooled")
    }
    assert all(path.with_name("policy.toml").exists() for path in studies)


def test_a_study_digest_covers_values_not_layout(tmp_path: Path) -> None:
    text = (ROOT / "docs/examples/study.toml").read_text()
    study = load_study(ROOT / "docs/examples/study.toml")
    other = tmp_path / "study.toml"
    other.write_text(text.replace("steps = 5  ", "steps = 5 # five\n"))
    assert load_study(other).digest() == study.digest()
    other.write_text(text.replace("steps = 5  ", "steps = 6  "))
    assert load_study(other).digest() != study.digest()
    assert len(study.digest()) == hashlib.sha256().digest_size
