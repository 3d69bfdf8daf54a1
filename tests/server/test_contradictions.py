"""What a site says about itself, held against the study and the run: fact by fact."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from model.layout import Layout, LayoutEntry
from privacy.study.manifest import Study
from privacy.wire.bodies import SiteFacts
from privacy.wire.reasons import Reason, explain
from server.context import RunContext
from server.contradictions import layout_contradiction, study_contradiction
from tests.server.fakes import RUN, make_study

LAYOUT = Layout((LayoutEntry("unet.lora_A.weight", (2, 3), "float32"),))
ROSTER = bytes(range(32))


@pytest.fixture
def study(study_values: dict[str, Any]) -> Study:
    return make_study(study_values)


@pytest.fixture
def context(study: Study) -> RunContext:
    known = SimpleNamespace(study=study, run=RUN, roster_digest=lambda: ROSTER)
    return cast(RunContext, known)


@pytest.fixture
def facts(study: Study) -> SiteFacts:
    """Of a site that may take part."""
    return SiteFacts(
        name="north",
        declared_patients=500,
        study_digest=study.digest(),
        base_digest=bytes.fromhex(study.base.digest.removeprefix("sha256:")),
        layout_fingerprint=LAYOUT.fingerprint(),
        parameters=6,
        epsilon_spent=0.0,
        epsilon_budget=8.0,
        delta=1e-5,
        roster_digest=ROSTER,
        noise_multiplier=study.training.noise_multiplier,
        epsilon_schedule=1.0,
        newest_run=RUN,
        release=(0, 1, 0),
    )


def test_a_site_that_agrees_may_take_part(facts: SiteFacts, context: RunContext) -> None:
    assert study_contradiction(facts, context) == ""
    assert layout_contradiction(facts, LAYOUT) == ""


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"name": "nowhere"}, "The study has no site of this name."),
        ({"study_digest": bytes(32)}, explain(Reason.WRONG_STUDY)),
        ({"base_digest": bytes([1] * 32)}, "It has another base model."),
        ({"declared_patients": 501}, "It declares 501 patients, the study says 500."),
        ({"roster_digest": bytes(32)}, explain(Reason.WRONG_ROSTER)),
        ({"noise_multiplier": 0.5}, "It adds noise of sigma 0.5, the study says 1."),
        ({"newest_run": RUN + 1}, f"It knows run {RUN + 1} of the study, and this is run {RUN}."),
    ],
)
def test_each_fact_that_contradicts_the_study_is_named(
    facts: SiteFacts, context: RunContext, other: dict[str, Any], words: str
) -> None:
    assert study_contradiction(replace(facts, **other), context).startswith(words)


@pytest.mark.parametrize("other", [{"layout_fingerprint": bytes(32)}, {"parameters": 5}])
def test_another_layout_is_another_adapter(facts: SiteFacts, other: dict[str, Any]) -> None:
    assert layout_contradiction(replace(facts, **other), LAYOUT) == explain(Reason.WRONG_LAYOUT)
