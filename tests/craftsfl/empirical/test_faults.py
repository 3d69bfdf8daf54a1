"""Faults planted into a site's own training code: the audit sees each, and none where none is."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from bench.audit_empirical import FAULTS, SEEN_BY_CURVE, alarmed, missed
from craftsfl.cli import app
from craftsfl.empirical import report
from craftsfl.empirical.audit import AUDITED_MECHANISMS, MechanismAudit, audit_mechanism
from craftsfl.empirical.cohort import Audited

SIZES = {"releases": 2, "canaries": 12}
PLANTED = [
    pytest.param(
        planted, kind, marks=() if kind == kinds[-1] else pytest.mark.slow, id=f"{planted} {kind}"
    )
    for planted, (_, kinds) in FAULTS.items()
    for kind in kinds
    if planted != "nothing"
]
RIGHT = {
    "no noise": "noise variance over sigma^2",
    "half the noise": "noise variance over sigma^2",
    "clip by tile": "longest vector over C",
    "noise reused": "correlation of two releases' noise",
    "share sized for another cohort": "noise variance over sigma^2",
    "cached draw": "share whom a draw repeats",
}


def wrong(found: MechanismAudit) -> set[str]:
    return {check.name for check in found.checks if not check.passed}


@pytest.mark.parametrize("kind", AUDITED_MECHANISMS)
def test_a_correct_site_passes(kind: Audited) -> None:
    found = audit_mechanism(kind, 0, **SIZES)
    assert wrong(found) == set()
    assert found.passed
    assert found.curve.present + found.curve.absent == 24


@pytest.mark.parametrize(("planted", "kind"), PLANTED)
def test_a_direct_check_names_the_fault(planted: str, kind: Audited) -> None:
    with FAULTS[planted][0]():
        found = audit_mechanism(kind, 1, **SIZES)
    assert RIGHT[planted] in wrong(found)
    assert not found.passed


@pytest.mark.slow
@pytest.mark.parametrize("planted", ["nothing", *SEEN_BY_CURVE])
@pytest.mark.parametrize("kind", AUDITED_MECHANISMS)
def test_the_curve_alone_sees_half_the_noise_and_clip_by_tile(planted: str, kind: Audited) -> None:
    raised, _ = alarmed(("curve", kind, planted, 2))
    assert raised == (planted != "nothing")


def test_the_bench_fails_where_an_aim_is_missed() -> None:
    row = {"what": "empirical", "judge": "curve", "planted": "clip by tile", "seeds": 20}
    assert missed([row | {"alarms": 19}]) == []
    assert len(missed([row | {"alarms": 18}])) == 1
    assert len(missed([row | {"judge": "direct", "alarms": 19}])) == 1
    assert len(missed([row | {"planted": "nothing", "alarms": 1}])) == 1


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A small audit's command line."""
    small = (audit_mechanism.__kwdefaults__ or {}) | {"canaries": 12}
    monkeypatch.setattr(audit_mechanism, "__kwdefaults__", small)
    return ["audit", "empirical", "--mechanism", "pooled", "--releases", "2", "--no-one-run"]


def test_the_command_says_that_nothing_contradicts(asked: list[str]) -> None:
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 0, result.output
    assert "pooled: nothing contradicts what is charged" in result.output
    assert "WRONG" not in result.output
    assert report._MEANING in result.output.replace("\n", " ")


def test_the_command_ends_with_1_where_something_is_wrong(asked: list[str]) -> None:
    with FAULTS["no noise"][0]():
        result = CliRunner().invoke(app, [*asked, "--json"])
    assert result.exit_code == 1
    values = json.loads(result.stdout)
    assert not values["passed"]
    failed = [one["name"] for one in values["mechanisms"][0]["checks"] if not one["passed"]]
    assert "noise variance over sigma^2" in failed
