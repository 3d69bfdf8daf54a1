"""A full disk under real processes, and that the benchmark would notice."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.disk_faults import DISK_OWNERS, DiskTrial, can_mount, disk_row, measure_disk

GOOD = DiskTrial(resumed=True, stopped="", uncaused=0, double=0, tracebacks=0, said="disk is full")


def test_a_row_sums_up_its_trials() -> None:
    bad = replace(GOOD, resumed=False, stopped="The disk is full.", uncaused=2, tracebacks=1)
    assert disk_row("mlflow", [GOOD, bad]) == {
        "fault": "disk full: mlflow",
        "trials": 2,
        "resumed": 1,
        "stopped_in_words": 1,
        "uncaused_charges": 2,
        "double_released": 0,
        "tracebacks": 1,
        "said": "disk is full",
    }


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("owner", DISK_OWNERS)
def test_a_full_disk_ends_no_run_and_charges_nothing_without_cause(owner: str) -> None:
    if not can_mount():
        pytest.skip("no small disk can be mounted here: it takes root")
    (row,) = measure_disk(1, tuple(one for one in DISK_OWNERS if one == owner))
    assert (row["trials"], row["resumed"], row["tracebacks"]) == (1, 1, 0), row
    assert (row["double_released"], row["uncaused_charges"]) == (0, 0), row
