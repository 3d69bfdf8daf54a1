"""Losses by name: known ones, unknown ones, and those that no private study may have."""

from __future__ import annotations

from typing import Any

import pytest

from model.losses import StageTwoLoss, denoising, find_loss, loss_of
from privacy.config import check
from privacy.errors import ConfigError, ModelError
from privacy.study.losses import COUPLED, coupled
from privacy.study.manifest import Study
from tests.model.losses.worlds import DRIFT


def test_an_unknown_loss_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ModelError, match="no loss 'denoisin'") as caught:
        find_loss("denoisin")
    assert "stage-two" in caught.value.hint


@pytest.mark.parametrize("name", COUPLED)
def test_a_coupled_loss_is_refused_by_name_with_the_reason(
    name: str, study_values: dict[str, Any]
) -> None:
    with pytest.raises(ModelError, match="couples patients: it") as caught:
        find_loss(name)
    assert "stage-two" in caught.value.hint
    study_values["training"]["loss"] = name
    with pytest.raises(ConfigError, match="couples patients: it"):
        check(study_values, Study, where="test")


@pytest.mark.parametrize("name", ["InfoNCE", "in-batch InfoNCE", "in_batch_infonce", "Batch CKA"])
def test_spelling_does_not_help(name: str) -> None:
    assert coupled(name) is not None
    assert coupled("stage-two") is None


def test_a_study_gets_its_loss(tiny_pipeline: Any, study_values: dict[str, Any]) -> None:
    assert loss_of(check(study_values, Study, where="test"), tiny_pipeline) is denoising
    study_values["training"]["loss"] = "stage-two"
    study_values["stage_two"] = {"drift": DRIFT.model_dump()}
    study = check(study_values, Study, where="test")
    assert loss_of(study, tiny_pipeline) == StageTwoLoss(drift=DRIFT)
