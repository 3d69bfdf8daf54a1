"""A short run of the fault driver, and proof that it would notice."""

from __future__ import annotations

import pytest

from bench import ledger_faults as faults
from privacy.ledger import AttemptKey, SqliteLedger
from privacy.ledger.chain import Chain
from privacy.ledger.files import HeadFile

FIGURES = ("lost", "overspent", "double_released", "stuck")


@pytest.mark.slow
@pytest.mark.ci
def test_nothing_is_lost_overspent_or_released_twice() -> None:
    rows = faults.measure_ledger(8)
    assert {row["fault"]: row["trials"] for row in rows} == {
        "SIGKILL in ledger": 2,
        "SIGKILL in training": 2,
        "SIGKILL in release": 2,
        "SIGKILL at any time": 2,
        "file cut": 3,
        "bit flipped": 3,
        "disk full": 3,
    }
    for row in rows:
        assert [row[figure] for figure in FIGURES] == [0, 0, 0, 0], row


def kills(trials: int) -> dict[str, int]:
    """What kills during the release bring to light."""
    lines, seconds = faults.rehearse("release")
    outcomes = (faults.killed("release", seed, lines, seconds) for seed in range(50))
    found = faults.row("", trials, (outcome for outcome in outcomes if outcome is not None))
    return {figure: int(found[figure] or 0) for figure in FIGURES}


def test_it_notices_an_update_that_leaves_before_its_charge(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(SqliteLedger, "commit", lambda self, key: None)
    found = kills(3)
    assert found["lost"] > 0
    assert found["overspent"] == 3


@pytest.mark.slow
@pytest.mark.ci
def test_it_notices_a_ledger_that_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    def forget(self: SqliteLedger, key: AttemptKey, *_: object) -> None:
        """Acknowledge, and write nothing."""

    monkeypatch.setattr(SqliteLedger, "intent", forget)
    monkeypatch.setattr(SqliteLedger, "commit", forget)
    found = kills(4)
    assert found["lost"] > 0
    assert found["double_released"] > 0


@pytest.mark.slow
@pytest.mark.ci
def test_it_notices_a_ledger_that_opens_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Chain, "check_head", lambda *_, **__: None)
    found = faults.row("", 8, (faults.harmed(faults.cut, seed) for seed in range(8)))
    # One lost charge is made up for at the next start; what left twice cannot be.
    assert int(found["double_released"] or 0) > 0


def test_it_notices_a_site_that_does_not_start_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def torn(self: HeadFile, head: object) -> None:
        self.path.write_bytes(b"half a head")

    monkeypatch.setattr(HeadFile, "write", torn)
    with faults.fresh_folder() as folder:
        assert faults.one_site(faults.Coordinator(), faults.ForkedSite(folder), 1) == (True, 0)
        assert faults.finish(faults.Coordinator(), folder, 1) == faults.Verdict(stuck=1)
