"""What the log and an auditor's desk cost, and what they find.

Each row has a `what`; the others of its keys depend on it. Rows are made by the modules of this
package, which are imported only when one of their rows is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Final

from bench.output import BenchRow, parser, print_rows

# Row -> the module whose `measure(quick)` makes it.
MAKERS: Final = {
    "append": "bench.audit.log",
    "proof": "bench.audit.log",
    "empirical": "bench.audit_empirical",
    "one-run": "bench.audit_empirical",
    "tamper": "bench.audit.broken",
    "false alarms": "bench.audit.alarms",
    "verify": "bench.audit.large",
    "types": "bench.audit.tissue_types",
    "step": "bench.audit.step",
}


def audit_rows(wanted: Iterable[str], *, quick: bool) -> list[BenchRow]:
    """The rows that are wanted; `quick`: as few as show that the bench works."""
    names = list(wanted)
    found: list[BenchRow] = []
    for module in dict.fromkeys(MAKERS[name] for name in names):
        make: Callable[[bool], Iterable[BenchRow]] = import_module(module).measure
        found += [row for row in make(quick) if row["what"] in names]
    return found


def main() -> None:
    """`python -m bench.audit [--json] [--quick] [--only append,proof]`."""
    arguments = parser("audit", __doc__ or "")
    arguments.add_argument("--quick", action="store_true", help="as few as show that it works")
    arguments.add_argument("--only", default=",".join(MAKERS), help="rows, with commas")
    options = arguments.parse_args()
    wanted = options.only.split(",")
    unknown = sorted(set(wanted) - MAKERS.keys())
    if unknown:
        arguments.error(f"there is no row {unknown[0]!r}; there are {', '.join(MAKERS)}")
    rows = audit_rows(wanted, quick=options.quick)
    if options.json:
        print_rows("audit", rows, as_json=True)
        return
    for row in rows:
        print_rows("audit", [row], as_json=False)


if __name__ == "__main__":
    main()
