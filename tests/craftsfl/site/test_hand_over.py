"""`craftsfl site hand-over`, as a hospital types it."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from client.settings import load_site
from craftsfl.cli import app
from privacy.audit.handed import HandedOver
from privacy.audit.ledgers import decode_ledger
from privacy.audit.statement import SignedStatement
from privacy.errors import AuditError, ConfigError, CraftsflError
from tests.client.masked import IDENTITIES
from tests.craftsfl.site.budgets import BudgetedHospital


def typed(hospital: BudgetedHospital, out: Path) -> Result:
    return CliRunner().invoke(app, ["site", "hand-over", str(hospital.settings), "-o", str(out)])


def refused(result: Result, kind: type[CraftsflError]) -> str:
    assert isinstance(result.exception, kind), result.output
    return result.exception.message


def test_a_site_hands_over_its_ledger_and_its_signed_word_beside_a_working_agent(
    tmp_path: Path,
) -> None:
    hospital, out = BudgetedHospital(tmp_path), tmp_path / "north.zip"
    with hospital.spend(2) as ledger:
        result = typed(hospital, out)
        head = ledger.head()
    assert result.exit_code == 0, result.output
    made = HandedOver.decode(out.read_bytes())
    assert made.site == "north"
    assert decode_ledger(made.ledger).head == head
    said = SignedStatement.decode(made.statement)
    assert said.is_signed_by(IDENTITIES["north"].public)
    assert said.statement.head == head.to_bytes()
    before = out.read_bytes()
    assert "exists already" in refused(typed(hospital, out), ConfigError)
    assert out.read_bytes() == before


def test_a_site_without_ledger_or_identity_hands_nothing_over(tmp_path: Path) -> None:
    hospital, out = BudgetedHospital(tmp_path), tmp_path / "north.zip"
    assert "no ledger yet" in refused(typed(hospital, out), AuditError)
    text = hospital.settings.read_text().partition("[identity]")[0]
    hospital.settings.write_text(text)
    with pytest.raises(ConfigError, match="no identity to sign with"):
        raise typed(hospital, out).exception or AssertionError
    assert not out.exists()


@pytest.mark.parametrize("name", ["study", "policy"])
def test_who_has_joined_no_study_is_told_how(tmp_path: Path, name: str) -> None:
    hospital, out = BudgetedHospital(tmp_path), tmp_path / "north.zip"
    getattr(load_site(hospital.settings), name).unlink()
    asked = CliRunner().invoke(app, ["site", "budget", str(hospital.settings)])
    for result in (typed(hospital, out), asked):
        assert isinstance(result.exception, ConfigError)
        assert "joined no study yet" in result.exception.message
        assert "craftsfl site join" in result.exception.hint
