from __future__ import annotations

import math
from typing import Any

from privacy.accounting import epsilon
from privacy.study.manifest import Study
from privacy.study.terms import event_of
from server.spending import Spending
from tests.server.fakes import make_study


def of(study: Study, count: int) -> float:
    return epsilon([event_of(study)] * count, study.privacy.delta)


def test_each_update_is_composed_with_those_before(study_values: dict[str, Any]) -> None:
    study = make_study(study_values, rounds=4)
    spending = Spending(study)
    assert [spending.released("north", 0.0) for _ in range(3)] == [of(study, n) for n in (1, 2, 3)]
    assert spending.released("harbour", of(study, 2)) == of(study, 3)


def test_a_site_that_joins_again_says_where_it_stands(study_values: dict[str, Any]) -> None:
    study = make_study(study_values, rounds=4)
    spending = Spending(study)
    spending.released("north", 0.0)
    # One more was charged than the server has seen.
    assert spending.released("north", of(study, 2)) == of(study, 3)


def test_what_the_rounds_do_not_add_up_to_has_no_figure(study_values: dict[str, Any]) -> None:
    study = make_study(study_values)
    spending = Spending(study)
    assert spending.released("north", of(study, 1) * 1.01) is None
    assert spending.released("harbour", of(study, 9)) is None  # beyond all rounds and attempts


def test_without_noise_there_is_no_privacy(study_values: dict[str, Any]) -> None:
    spending = Spending(make_study(study_values, training={"noise_multiplier": 0.0}))
    assert spending.released("north", 0.0) == math.inf
    assert spending.released("north", math.inf) == math.inf
