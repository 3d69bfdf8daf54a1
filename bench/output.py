"""How every benchmark prints: a table for people, one JSON object for programs."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

BenchRow = Mapping[str, str | int | float | bool | None]


def parser(name: str, description: str) -> argparse.ArgumentParser:
    """A parser with the arguments that every benchmark has."""
    made = argparse.ArgumentParser(prog=f"python -m bench.{name}", description=description)
    made.add_argument(
        "--json", action="store_true", help="print one JSON object instead of a table"
    )
    return made


def device_name() -> str:
    """The processor or GPU, for people."""

    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name(0)
    return f"{platform.machine()} CPU, {os.cpu_count()} cores"


def print_rows(name: str, rows: Sequence[BenchRow], *, as_json: bool) -> None:
    """Print `rows` (flat, all with the same keys)."""
    if as_json:
        answer = {"bench": name, "device": device_name(), "rows": [dict(row) for row in rows]}
        json.dump(answer, sys.stdout, allow_nan=False)
        print()
        return
    table = Table(*rows[0].keys(), title=f"{name} on {device_name()}")
    for row in rows:
        table.add_row(*(f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()))
    Console().print(table)
