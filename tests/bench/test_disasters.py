"""What `bench.faults disasters` sums up, and the clock that it moves. A disaster takes minutes."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from bench.disasters import DisasterTrial, ToldDesk, disaster_rows
from bench.far_site import OPERATOR
from bench.moved_clock import write_shift

ROOT = Path(__file__).parents[2]


def test_a_row_has_the_slowest_desk_of_its_kind_and_null_where_one_was_not_told() -> None:
    east, west = ToldDesk("east", 12.34, "It hangs."), ToldDesk("west", 30.1, "It hangs.")
    silent = ToldDesk(OPERATOR, None, "")
    first = DisasterTrial((east, west, ToldDesk(OPERATOR, 25.0, "No answer.")), True, 0, 1)
    second = DisasterTrial((east, west, silent), False, 2, 0)
    hospital, operator = disaster_rows("coordinator hangs", [first, second])
    assert hospital == {
        "fault": "coordinator hangs",
        "trials": 2,
        "resumed": 1,
        "named_seconds": 30.1,
        "desk": "hospital",
        "double_released": 2,
        "uncaused_charges": 1,
        "said": "It hangs.",
    }
    assert (operator["desk"], operator["named_seconds"]) == (OPERATOR, None)
    assert operator["said"] == "No answer."
    assert disaster_rows("link cut", []) == []


def test_a_clock_is_moved_while_a_program_runs(tmp_path: Path) -> None:
    shift = tmp_path / "shift"
    write_shift(shift, 600.0)
    (tmp_path / "told.py").write_text(
        "import datetime, sys, time\n"
        "def told():\n"
        "    now = datetime.datetime.now(datetime.UTC).timestamp()\n"
        "    print(time.time(), now, sys.argv[1], flush=True)\n"
        "told()\n"
        "input()\n"
        "told()\n"
    )
    program = subprocess.Popen(
        [sys.executable, "-m", "bench.moved_clock", str(shift), "told", "word"],
        env={"PYTHONPATH": f"{ROOT}:{tmp_path}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    before = program.stdout.readline().split()
    write_shift(shift, -600.0)
    after = program.communicate("\n", timeout=60)[0].split()
    for told, ahead in ((before, 600.0), (after, -600.0)):
        assert told[2] == "word"
        for seconds in told[:2]:
            assert abs(float(seconds) - time.time() - ahead) < 120
