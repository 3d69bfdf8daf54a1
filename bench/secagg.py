"""What secure aggregation costs, next to flwr's legacy SecAgg+ on the same vectors.

One row per implementation (`impl`: ours or flwr), cohort `n`, parameters `d`, field width `bits`
(for flwr, its modulus) and `dropped` sites, which share their keys and then never send a vector.
CPU seconds of one site (`client_s`) and of the server (`server_s`) for a whole attempt, including
encoding, signing and checking messages; `setup_s` is the part of a site that does not grow with d
(measured with d = 1). `rotate_s`, `quantise_s`, `pack_s` and `mask_s` are the kernels alone;
`floor_s` is a lower bound for `mask_s`: the same number of keystream bytes, each added once to
memory in the cache. `bytes_up_per_param` and `bytes_down_per_param` count all messages of a site
except the model.

Ours: all sites run in full and the sum is checked. flwr: see `bench.secagg_flwr`; it is left out
at n = 100, where setting up all its sites takes minutes. Set OMP_NUM_THREADS=1 for steady figures.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace

from bench import secagg_flwr, secagg_ours
from bench.output import BenchRow, parser, print_rows
from bench.secagg_timing import Cost, SecAggCell
from privacy.secagg.offer import threshold

CELLS = (
    SecAggCell(8, 1_000_000, 16, 0),
    SecAggCell(8, 1_000_000, 16, 1),
    SecAggCell(16, 4_000_000, 16, 0),
    SecAggCell(16, 4_000_000, 16, 2),
    SecAggCell(32, 4_000_000, 16, 0),
    SecAggCell(32, 4_000_000, 16, 3),
    SecAggCell(32, 1_590_000, 21, 0),
    SecAggCell(100, 1_000_000, 21, 10),
)
QUICK_CELLS = (SecAggCell(3, 1_000, 16, 0), SecAggCell(8, 10_001, 21, 1))
FLWR_SITES = 32  # the largest cohort that flwr is measured with


def our_row(cell: SecAggCell, repeats: int) -> BenchRow:
    """Our row of a cell; every figure is the least of `repeats`."""
    cost = _least([secagg_ours.Attempt(cell).run() for _ in range(repeats)])
    parts = asdict(secagg_ours.parts(cell, 2 * repeats + 1))
    return _row("ours", cell, cost, parts | {"setup_s": secagg_ours.setup(cell.n, repeats + 1)})


def flwr_row(cell: SecAggCell, repeats: int) -> BenchRow:
    """flwr's row of a cell."""
    limit = threshold(cell.n)

    def least(cell: SecAggCell) -> Cost:
        vector = secagg_ours.update(cell.d)
        return _least([secagg_flwr.run(cell, vector, limit) for _ in range(repeats)])

    cost, setup = least(cell), least(SecAggCell(cell.n, 1, cell.bits, 0))
    return _row("flwr", replace(cell, bits=secagg_flwr.BITS), cost, {"setup_s": setup.client_s})


def rows(cells: tuple[SecAggCell, ...], repeats: int) -> Iterator[BenchRow]:
    """Both rows of every cell."""
    for cell in cells:
        yield our_row(cell, repeats)
        if cell.n <= FLWR_SITES:
            yield flwr_row(cell, repeats)


def _least(costs: list[Cost]) -> Cost:
    client, server = min(c.client_s for c in costs), min(c.server_s for c in costs)
    return replace(costs[0], client_s=client, server_s=server)


def _row(impl: str, cell: SecAggCell, cost: Cost, measured: dict[str, float]) -> BenchRow:
    kernels = ("rotate_s", "quantise_s", "pack_s", "mask_s", "floor_s")
    return {
        "impl": impl,
        **asdict(cell),
        "client_s": cost.client_s,
        **{name: measured.get(name) for name in kernels},
        "server_s": cost.server_s,
        "bytes_up_per_param": cost.bytes_up / cell.d,
        "bytes_down_per_param": cost.bytes_down / cell.d,
        "setup_s": measured["setup_s"],
    }


def main() -> None:
    """`python -m bench.secagg [--json] [--quick] [--repeats N] [--n N]`."""
    arguments = parser("secagg", __doc__ or "")
    arguments.add_argument("--quick", action="store_true", help="small cells, to try it out")
    arguments.add_argument("--repeats", type=int, default=3, help="the least of this many is shown")
    arguments.add_argument("--n", type=int, help="the cells of this cohort only")
    options = arguments.parse_args()
    cells = tuple(
        cell for cell in (QUICK_CELLS if options.quick else CELLS) if options.n in (None, cell.n)
    )
    if not cells or options.repeats < 1:
        arguments.error("no such cell")
    print_rows("secagg", list(rows(cells, options.repeats)), as_json=options.json)


if __name__ == "__main__":
    main()
