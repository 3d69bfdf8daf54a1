"""The figure for publication."""

from __future__ import annotations

from pathlib import Path

import pytest

import privacy.accounting.release as release
from craftsfl.site.budget.published import published, show_published
from craftsfl.site.budget.statement import Statement, statement_of
from privacy.accounting import epsilon
from privacy.errors import AccountingError
from privacy.study.terms import whole_schedule
from tests.client.studies import make_study
from tests.craftsfl.site.budgets import OTHER, STUDY, charge, entries, printed, rules_of


def shown(statement: Statement) -> str:
    return " ".join(
        printed(lambda out: show_published(statement, published(statement), out), 300).split()
    )


def test_the_whole_schedule_is_published_however_much_of_it_was_run(tmp_path: Path) -> None:
    rules = rules_of(tmp_path)
    books = [statement_of(rules, entries(*[charge()] * count)) for count in (1, 3)]
    first, second = (published(statement) for statement in books)
    assert first == second
    (item,) = first
    whole = epsilon(whole_schedule(STUDY), STUDY.privacy.delta)
    assert item.attempts == STUDY.rounds * STUDY.privacy.attempts > 3
    assert books[1].present.epsilon < item.figure.epsilon <= whole
    assert item.figure.epsilon == pytest.approx(whole, rel=1e-2)
    text = shown(books[0])
    assert f"{item.figure.epsilon:.4f}" in text and f"{item.figure.second:.4f}" in text
    assert "of the whole schedule" in text and "however early the study ends" in text
    assert f"{books[0].present.epsilon:.4f}" not in text


def test_another_study_is_published_from_its_own_settings(tmp_path: Path) -> None:
    statement = statement_of(rules_of(tmp_path), entries(charge(), charge(digest=OTHER)))
    assert [item.study for item in published(statement)] == ["demo"]
    assert "Not published, study 00010203: its schedule is in its own study.toml" in shown(
        statement
    )


def test_more_than_the_manifest_allows_is_not_published(tmp_path: Path) -> None:
    most = STUDY.rounds * STUDY.privacy.attempts
    statement = statement_of(rules_of(tmp_path), entries(*[charge()] * (most + 1)))
    with pytest.raises(AccountingError, match="its manifest does not allow"):
        published(statement)


def test_nothing_is_published_where_the_accountants_disagree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    statement = statement_of(rules_of(tmp_path), entries(charge()))
    monkeypatch.setattr(release, "prv_epsilon", lambda events, delta: (90.0, 91.0, 92.0))
    with pytest.raises(AccountingError, match="disagree"):
        published(statement)


def test_nothing_charged_or_no_noise_gives_no_figure(tmp_path: Path) -> None:
    rules = rules_of(tmp_path)
    assert published(statement_of(rules, [])) == ()
    silent = make_study(training={"noise_multiplier": 0.0})
    statement = statement_of(rules, entries(charge(silent, STUDY.digest())))
    assert published(statement) == ()
    assert "nothing to publish" in shown(statement)
