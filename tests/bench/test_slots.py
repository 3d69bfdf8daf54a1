from __future__ import annotations

import json

import pytest

from bench import slots


@pytest.mark.slow
def test_every_kind_has_its_row_and_another_attempt_takes_no_training(
    capsys: pytest.CaptureFixture[str],
) -> None:
    slots.main(["--json", "--quick"])
    answer = json.loads(capsys.readouterr().out)
    assert answer["bench"] == "slots"
    rows = {row["who"]: row for row in answer["rows"]}
    assert list(rows) == ["everybody", "one less", "half", "nobody", "drawn", "again"]
    assert rows["everybody"]["ratio"] == 1.0
    assert rows["nobody"]["ratio"] > 0.5  # blanks are computed
    assert rows["again"]["ratio"] < 0.05
