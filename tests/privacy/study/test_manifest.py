"""The manifest's agreement on secure aggregation: what cannot work is refused when it is read."""

from __future__ import annotations

from typing import Any

import pytest

from privacy.config import check
from privacy.error_ids import ErrorId
from privacy.errors import ConfigError
from privacy.study.manifest import Study

ROSTER = "ab" * 32


@pytest.fixture
def masked(study_values: dict[str, Any]) -> dict[str, Any]:
    study_values["aggregation"] = {"strategy": "fedavg"}
    study_values["secure_aggregation"] = {"roster": ROSTER, "bound": 1.5}
    return study_values


def load(values: dict[str, Any]) -> Study:
    return check(values, Study, where="study.toml")


def test_secure_aggregation_is_required_by_default(masked: dict[str, Any]) -> None:
    masked["cohort"]["min_sites"] = 2
    study = load(masked)
    assert study.smallest_cohort == 3  # though min_sites is 2
    assert (study.secure_aggregation.bits, study.secure_aggregation.colluders) == (16, 0)
    masked["cohort"]["min_sites"] = 3
    assert load(masked).smallest_cohort == 3


def test_a_study_that_still_says_plain_is_told_what_to_write(masked: dict[str, Any]) -> None:
    masked["aggregation"]["secure_aggregation"] = "plain"
    with pytest.raises(ConfigError, match=r'"plain" is no longer a mode.*write "required"') as one:
        load(masked)
    assert one.value.id == ErrorId.PLAIN_STUDY
    del masked["secure_aggregation"]  # as such studies were written
    with pytest.raises(ConfigError, match=r'"plain" is no longer a mode.*write "required"'):
        load(masked)


def test_the_digest_covers_the_agreement(masked: dict[str, Any]) -> None:
    before = load(masked).digest()
    for key, value in (("roster", "cd" * 32), ("bound", 1.6), ("bits", 21), ("colluders", 1)):
        changed = {**masked, "secure_aggregation": {**masked["secure_aggregation"], key: value}}
        assert load(changed).digest() != before


def test_how_many_colluders_the_noise_survives_is_a_setting_of_its_own(
    masked: dict[str, Any],
) -> None:
    before = load(masked)
    masked["privacy"]["noise_colluders"] = 0
    assert load(masked).digest() == before.digest()  # studies from before there was such a key
    masked["privacy"]["noise_colluders"] = 1
    after = load(masked)
    assert after.digest() != before.digest()
    masked["privacy"]["noise_colluders"] = 2
    with pytest.raises(ConfigError, match=r"noise_colluders is 2, but the masks.*withstand 1"):
        load(masked)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"secure_aggregation": None}, "secure_aggregation"),
        ({"aggregation": {"strategy": "fedavg", "secure_aggregation": "off"}}, "'required'"),
        ({"secure_aggregation": {"roster": "ab", "bound": 1.0}}, "roster"),
        ({"secure_aggregation": {"roster": ROSTER, "bound": 0.0}}, "bound"),
        ({"secure_aggregation": {"roster": ROSTER}}, "bound is missing"),
        ({"secure_aggregation": {"roster": ROSTER, "bound": 1.0, "bits": 7}}, "bits"),
        ({"secure_aggregation": {"roster": ROSTER, "bound": 1.0, "bits": 33}}, "bits"),
        (
            {"secure_aggregation": {"roster": ROSTER, "bound": 1.0, "bits": 8}},
            "bits = 8 cannot keep the mean of 3 sites",
        ),
        (
            {"secure_aggregation": {"roster": ROSTER, "bound": 1.0, "tolerated_error": 1e-9}},
            "bits = 16 cannot keep",
        ),
        (
            {"secure_aggregation": {"roster": ROSTER, "bound": 1.0, "colluders": 2}},
            "colluders may be 1 at most",
        ),
    ],
)
def test_what_cannot_work_is_refused(
    masked: dict[str, Any], change: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        load({**masked, **change})


def test_two_sites_cannot_hide_from_each_other(masked: dict[str, Any]) -> None:
    masked["sites"] = masked["sites"][:2]
    masked["cohort"]["min_sites"] = 2
    with pytest.raises(ConfigError, match=r"2 site\(s\) are listed.*needs 3"):
        load(masked)
