"""A study whose epsilon could not be released is refused when it is loaded."""

from __future__ import annotations

import pytest

from privacy.accounting import release as release_module
from privacy.accounting import schedule as schedule_module
from privacy.errors import AccountingError
from privacy.study.manifest import Study
from privacy.study.schedule import check_schedule
from tests.client.studies import make_study


def study_of(delta: float = 1e-5, **training: object) -> Study:
    return make_study(rounds=10, training=training, privacy={"delta": delta, "attempts": 2})


def test_an_ordinary_study_does_not_ask_the_second_accountant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(schedule_module, "check_releasable")  # would be a NameError
    check_schedule(study_of(sampling_rate=0.25, noise_multiplier=2.0, steps=3))


def test_a_delta_that_rounding_eats_up_is_refused_before_anything_is_spent() -> None:
    with pytest.raises(AccountingError, match="too small for 100000 steps") as caught:
        check_schedule(study_of(1e-12, sampling_rate=0.25, noise_multiplier=2.0, steps=5000))
    assert "larger" in caught.value.hint or "delta" in caught.value.hint


def test_an_unusual_study_of_which_two_accountants_disagree_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unusual = study_of(1e-10, sampling_rate=0.25, noise_multiplier=2.0, steps=3)
    pytest.importorskip("opacus")
    check_schedule(unusual)
    monkeypatch.setattr(release_module, "prv_epsilon", lambda events, delta: (90.0, 91.0, 92.0))
    with pytest.raises(AccountingError, match="disagree"):
        check_schedule(unusual)


def test_a_study_without_noise_has_no_figure_and_no_fault() -> None:
    check_schedule(study_of(1e-12, noise_multiplier=0.0))


def test_what_nobody_can_compose_is_refused() -> None:
    with pytest.raises(AccountingError, match="cannot be accounted for"):
        check_schedule(study_of(sampling_rate=0.25, noise_multiplier=2.0, steps=600_000))
