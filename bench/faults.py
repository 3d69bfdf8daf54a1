"""What is lost, charged or released twice when something goes wrong.

`ledger`: a site is killed or its disk fails (`bench.ledger_faults`); `plane`: a process of a real
consortium is killed (`bench.plane_faults`); `disasters`: a cut link, a wrong clock, an expired
certificate, a coordinator that hangs (`bench.disasters`); `disk`: a disk is full
(`bench.disk_faults`); `desk`: a hospital's data are spoilt (`bench.desk_faults`). What the rows
mean stands in these modules.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, get_args

from bench.desk_faults import measure_desk
from bench.disasters import measure_disasters
from bench.disk_faults import DISK_OWNERS, can_mount, measure_disk
from bench.ledger_faults import measure_ledger
from bench.output import BenchRow, parser, print_rows
from bench.plane_faults import measure_plane
from bench.plane_study import PlaneMode


def _of_plane(options: argparse.Namespace) -> list[BenchRow]:
    modes = get_args(PlaneMode) if options.mode == "both" else (options.mode,)
    return [
        row
        for mode in modes
        for row in measure_plane(_trials(options, 100), mode, keep=options.dir, now=options.now)
    ]


def _of_disks(options: argparse.Namespace) -> list[BenchRow]:
    owners = tuple(one for one in DISK_OWNERS if one.startswith(options.only or ""))
    return measure_disk(_trials(options, 1), owners) if can_mount() else []


def _trials(options: argparse.Namespace, usual: int) -> int:
    return usual if options.seeds is None else int(options.seeds)


_MEASURES: Final[dict[str, Callable[[argparse.Namespace], list[BenchRow]]]] = {
    "ledger": lambda options: measure_ledger(_trials(options, 300)),
    "plane": _of_plane,
    "disasters": lambda options: measure_disasters(_trials(options, 1), options.only or ""),
    "disk": _of_disks,
    "desk": lambda options: measure_desk(_trials(options, 1), options.only or ""),
}


def main() -> None:
    """`python -m bench.faults WHAT [--seeds N] [--mode MODE] [--only NAME] [--json]`."""
    arguments = parser("faults", __doc__ or "")
    arguments.add_argument("what", choices=list(_MEASURES))
    arguments.add_argument("--seeds", type=int, help="ledger 300, plane 100, the others 1")
    arguments.add_argument("--mode", choices=("both", *get_args(PlaneMode)), default="both")
    arguments.add_argument("--dir", type=Path, help="of the plane: keep all here, and go on")
    arguments.add_argument("--now", type=int, help="of the plane, with --dir: kills of this call")
    arguments.add_argument("--only", help="the rows that begin with this: a fault, or whose disk")
    options = arguments.parse_args()
    rows = _MEASURES[options.what](options)
    if not rows:
        sys.stderr.write(
            "Nothing was measured: small disks and cut cables take root; or --only names nothing.\n"
        )
    if rows or options.json:
        print_rows("faults", rows, as_json=options.json)


if __name__ == "__main__":
    main()
