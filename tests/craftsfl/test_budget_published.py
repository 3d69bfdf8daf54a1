"""The figure for publication."""

from __future__ import annotations

from pathlib import Path

import pytest

import privacy.accounting.release as release
from craftsfl.budget.book import open_book
from craftsfl.budget.published import published, show_published
from privacy.accounting import epsilon
from privacy.errors import AccountingError
from privacy.events import event_of
from tests.client.studies import make_study

from .test_budget import STUDY, charge, entries, printed, rules_of


def test_a_published_figure_is_the_budgets_own_on_a_finer_grid(tmp_path: Path) -> None:
    book = open_book(rules_of(tmp_path), entries(*[charge()] * 3))
    (item,) = published(book)
    assert item.figure.epsilon <= book.present.epsilon == epsilon([event_of(STUDY)] * 3, 1e-5)
    assert item.figure.epsilon == pytest.approx(book.present.epsilon, rel=1e-2)
    text = printed(lambda console: show_published((item,), console), width=300)
    assert f"{item.figure.epsilon:.4f}" in text and f"{item.figure.second:.4f}" in text


def test_nothing_is_published_where_the_accountants_disagree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = open_book(rules_of(tmp_path), entries(charge()))
    monkeypatch.setattr(release, "prv_epsilon", lambda events, delta: (0.1, 0.2, 0.3))
    with pytest.raises(AccountingError, match="disagree"):
        published(book)


def test_nothing_charged_or_no_noise_gives_no_figure(tmp_path: Path) -> None:
    rules = rules_of(tmp_path)
    assert published(open_book(rules, [])) == ()
    silent = make_study(training={"noise_multiplier": 0.0})
    book = open_book(rules, entries(charge(silent)))
    assert published(book) == ()
    assert "nothing to publish" in printed(lambda console: show_published((), console))
