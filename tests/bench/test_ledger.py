from __future__ import annotations

from pathlib import Path

from bench import ledger
from privacy.ledger import read_ledger


def test_its_rows(tmp_path: Path) -> None:
    rows = ledger.measure(tmp_path, 41)
    assert {str(row["what"]): row["unit"] for row in rows} == {
        "open and verify 41 records": "s",
        "read beside the agent and verify 41 records": "s",
        "append": "ms",
        "plain fsynced write of the same bytes": "ms",
        "1.2 x plain + 5 ms": "ms",
        "file size per record": "bytes",
    }
    assert all(isinstance(row["value"], float) and row["value"] > 0 for row in rows)
    head = read_ledger(tmp_path / "ledger.sqlite").head()
    assert head.sequence == 41 + ledger.APPENDS - 1
