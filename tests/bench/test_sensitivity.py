from __future__ import annotations

import json

import pytest

from bench import sensitivity


@pytest.mark.slow
def test_nobody_moves_more_than_the_clip_and_the_control_does(
    capsys: pytest.CaptureFixture[str],
) -> None:
    sensitivity.main(["--json", "--quick"])
    answer = json.loads(capsys.readouterr().out)
    assert answer["bench"] == "sensitivity"
    control, protected = answer["rows"]
    assert list(protected) == [
        *("engine", "loss", "device", "precision", "scale", "protected"),
        *("leave_one_outs", "clipped", "ratio"),
    ]
    assert (control["protected"], protected["protected"]) == (False, True)
    assert control["ratio"] > sensitivity.LEAST_CONTROL
    assert protected["ratio"] <= sensitivity.TOLERANCE
    assert protected["clipped"] >= sensitivity.LEAST_CLIPPED
    assert protected["leave_one_outs"] == 16


SOUND = {"protected": True, "ratio": 1.0, "clipped": 1.0}
CONTROL = {"protected": False, "ratio": 5.0, "clipped": 1.0}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([SOUND, CONTROL], None),
        ([{**SOUND, "ratio": 1 + 2e-6}, CONTROL], "one patient moved the sum"),
        ([{**SOUND, "clipped": 0.8}, CONTROL], "too few patients"),
        ([SOUND, {**CONTROL, "ratio": 1.5}], "would see no fault"),
        ([SOUND], "would see no fault"),
    ],
)
def test_what_would_be_no_proof_fails(rows: list[dict[str, object]], words: str | None) -> None:
    found = sensitivity.faults(rows)  # type: ignore[arg-type]
    assert (found == []) if words is None else any(words in fault for fault in found)
