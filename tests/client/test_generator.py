"""At every start the generator of the noise is tried; what is found stands in the ledger."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from client.agent import __main__ as program
from client.agent import generator
from client.agent.generator import tried_ledger
from client.agent.startup import load
from client.agent.state import state_folder
from craftsfl.site.budget.command import BudgetOptions, show_budget
from privacy.discrete_gaussian.trial import USUAL_DEVIATION, GeneratorTrial, tried_generator
from privacy.errors import AccountingError
from privacy.ledger import read_ledger
from privacy.ledger.marker import Marker
from privacy.study.pooling import deviation_tried
from tests.pooled_study import pooled_study

from .hospital import write_hospital
from .studies import make_study


def broken(deviation, random) -> GeneratorTrial:
    return replace(tried_generator(deviation, random), variance=math.nan)


def test_every_start_is_recorded_and_noted(tmp_path: Path) -> None:
    site = load(write_hospital(tmp_path, study=make_study()))
    assert site.own is not None
    for start in (1, 2):
        with (
            state_folder(site.settings.agent.state) as state,
            tried_ledger(state, site) as ledger,
        ):
            assert ledger.head().sequence == 1 + start  # after its first record and its binding
            noted = Marker(site.own.key).read().note
            assert noted is not None
            assert noted.head == ledger.head()  # a lost ledger would not be charged for a trial
    view = read_ledger(state.ledger)
    assert view.tried is not None
    found, when = view.tried
    assert found.passed
    assert found.deviation == USUAL_DEVIATION
    assert when > 0
    assert view.entries() == ()


def test_a_generator_that_fails_is_recorded_and_nothing_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = write_hospital(tmp_path, study=make_study())
    site = load(settings)
    monkeypatch.setattr(generator, "tried_generator", broken)
    with (
        state_folder(site.settings.agent.state) as state,
        pytest.raises(AccountingError, match="fails its own trial"),
        tried_ledger(state, site),
    ):
        pytest.fail("the ledger was handed out")
    view = read_ledger(state.ledger)
    assert view.tried is not None
    assert not view.tried[0].passed
    assert view.tried[0].variance == math.inf
    show_budget(settings, BudgetOptions())
    assert "FAILED: nothing is trained until it passes" in capsys.readouterr().out
    monkeypatch.undo()
    with state_folder(site.settings.agent.state) as state, tried_ledger(state, site) as ledger:
        assert ledger.head().sequence == 3
    show_budget(settings, BudgetOptions())
    assert "passed (variance" in capsys.readouterr().out


def test_the_agents_program_starts_no_trainer_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = load(write_hospital(tmp_path, study=make_study()))
    monkeypatch.setattr(generator, "tried_generator", broken)

    def started() -> None:
        pytest.fail("a trainer was started")

    with pytest.raises(AccountingError, match="fails its own trial"):
        program._serve(site, started, program._Told())


def test_a_share_is_tried_at_its_own_deviation() -> None:
    assert deviation_tried(pooled_study()) == 8 << 16
    assert deviation_tried(make_study()) == USUAL_DEVIATION
