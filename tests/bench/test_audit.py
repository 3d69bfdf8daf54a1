from __future__ import annotations

from bench.audit.__main__ import MAKERS, audit_rows


def test_a_log_is_appended_to_and_proven() -> None:
    rows = audit_rows(["append", "proof"], quick=True)
    assert [row["what"] for row in rows] == ["append", "proof", "append"]
    assert all(row["entries"] == 2000 for row in rows)
    assert set(MAKERS) >= {"append", "proof"}
