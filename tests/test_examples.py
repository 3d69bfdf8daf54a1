"""Every sample file of the repository is read by the code that reads a user's."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from client.policy import SiteRules, limits_of
from client.settings import load_policy, load_site
from privacy.budget import Book, cannot_end, to_its_end
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


@pytest.mark.parametrize("name", ["study.toml", "pooled/study.toml"])
def test_the_sample_study_can_end_within_the_sample_policy(name: str) -> None:
    """With every attempt of every round; the figure in the sample is that of the accountant."""
    text = (ROOT / "docs/examples" / name).read_text()
    study = load_study(ROOT / "docs/examples" / name)
    policy = load_policy(ROOT / "docs/examples/policy.toml")
    for site in study.sites:
        charges = SiteRules(site.name, study, policy).charges
        allowance = Book().allowance(limits_of(policy), charges.charge)
        assert cannot_end(charges, allowance) is None
        whole = to_its_end(charges, allowance).study.after
        assert 0.9 * policy.study_epsilon < whole <= policy.study_epsilon
        assert f"{charges.most} make epsilon {whole:.2f}" in text


def test_a_study_digest_covers_values_not_layout(tmp_path: Path) -> None:
    text = (ROOT / "docs/examples/study.toml").read_text()
    study = load_study(ROOT / "docs/examples/study.toml")
    other = tmp_path / "study.toml"
    other.write_text(text.replace("steps = 5  ", "steps = 5 # five\n"))
    assert load_study(other).digest() == study.digest()
    other.write_text(text.replace("steps = 5  ", "steps = 6  "))
    assert load_study(other).digest() != study.digest()
    assert len(study.digest()) == hashlib.sha256().digest_size
