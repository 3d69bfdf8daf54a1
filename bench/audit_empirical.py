"""Does the empirical audit see what is wrong, and nothing where all is right?

Rows of `python -m bench.audit`, and of this module alone: `what` is "empirical"; `judge`, who has
to see it: the "curve" or the "direct" checks; `planted`, the fault, or "nothing"; `seeds`, how
many audits; `alarms`, how many of them raised one; `cpu_seconds`, of all. Every audit is a site's
own training code with system noise; a fault replaces one function of it. A last row, "one-run", has
the lower bound of one release, its ceiling and the epsilon that was claimed.

Exits with 1 where a curve sees a planted fault in fewer than 19 of 20 seeds, a direct check misses
one, or anything is raised about a correct site.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final
from unittest import mock

import torch

from bench.output import BenchRow, parser, print_rows
from client.agent import sealing
from craftsfl.empirical.audit import AUDITED_MECHANISMS, audit_mechanism, audit_one_run
from craftsfl.empirical.cohort import Audited
from privacy.discrete_gaussian import draw as draw_exactly
from privacy.discrete_gaussian.sampler import Integers
from privacy.dpsgd import lora_engine
from privacy.dpsgd.clipping import Gradients, contributions_of
from privacy.dpsgd.engine import BLANK, PhysicalBatch
from privacy.dpsgd.sampling import poisson_draw
from privacy.dpsgd.substreams import Substreams
from privacy.mechanisms.local import gradient as local
from privacy.mechanisms.local import step as local_step
from privacy.mechanisms.pooled import share as pooled
from privacy.study.pooling import grid_of

Fault = Callable[[], AbstractContextManager[object]]

_QUICK_RELEASES, _QUICK_CANARIES = 4, 24  # of the direct checks
_CURVE_NEEDED: Final = 0.95  # of the seeds
_DRAW, _POISSON = draw_exactly, poisson_draw


@contextmanager
def _drawn_by(draw: Callable[..., Integers]) -> Iterator[None]:
    """Both mechanisms' noise comes from `draw`."""
    with mock.patch.object(local, "draw", draw), mock.patch.object(pooled, "draw", draw):
        yield


def no_noise() -> AbstractContextManager[object]:
    """Centres are rounded."""

    def draw(
        centres: Integers, deviation: int, seed: bytes, *, fraction_bits: int = 16
    ) -> Integers:
        return (centres + (1 << (fraction_bits - 1))) >> fraction_bits

    return _drawn_by(draw)


def half_noise() -> AbstractContextManager[object]:
    """Half the deviation."""

    def draw(centres: Integers, deviation: int, seed: bytes, **more: int) -> Integers:
        return _DRAW(centres, deviation // 2, seed, **more)

    return _drawn_by(draw)


def noise_reused() -> AbstractContextManager[object]:
    """Every release has the noise of the first one."""

    def draw(centres: Integers, deviation: int, seed: bytes, **more: int) -> Integers:
        return _DRAW(centres, deviation, bytes(range(32)), **more)

    return _drawn_by(draw)


def clip_by_tile() -> AbstractContextManager[object]:
    """Each row of a patient is clipped, not the patient."""

    def contributions(
        batches: Iterable[PhysicalBatch], clipping_norm: float, gradients: Gradients
    ) -> Iterator[torch.Tensor]:
        shapes: list[tuple[int, int]] = []

        def apart() -> Iterator[PhysicalBatch]:
            for batch in batches:
                shapes.append(batch.shape)
                names = batch.patients.repeat_interleave(batch.rows_each)
                rows = torch.arange(len(names))
                yield PhysicalBatch(torch.where(names == BLANK, BLANK, rows), batch.losses)

        # One batch at a time: the numbers of its rows are unique in it, and nowhere else.
        for batch in apart():
            for parts in contributions_of([batch], clipping_norm, gradients):
                places, rows_each = shapes.pop(0)
                yield parts.view(places, rows_each, -1).sum(dim=1)

    return mock.patch.object(lora_engine, "contributions_of", contributions)


def share_of_another_cohort() -> AbstractContextManager[object]:
    """A share for all sites of the study, whoever is in the step."""
    return mock.patch.object(
        sealing, "grid_of", lambda study, cohort: grid_of(study, len(study.sites))
    )


def cached_draw() -> AbstractContextManager[object]:
    """Whoever would have been in the first step is in all of them."""
    kept: list[Substreams] = []

    def draw(patients: Integers, rate: float, streams: Substreams) -> Integers:
        kept.append(streams)
        return _POISSON(patients, rate, kept[0])

    return mock.patch.object(local_step, "poisson_draw", draw)


FAULTS: Mapping[str, tuple[Fault, tuple[Audited, ...]]] = MappingProxyType(
    {
        "nothing": (ExitStack, AUDITED_MECHANISMS),
        "no noise": (no_noise, AUDITED_MECHANISMS),
        "half the noise": (half_noise, AUDITED_MECHANISMS),
        "clip by tile": (clip_by_tile, AUDITED_MECHANISMS),
        "noise reused": (noise_reused, AUDITED_MECHANISMS),
        "share sized for another cohort": (share_of_another_cohort, ("pooled",)),
        "cached draw": (cached_draw, ("local",)),
    }
)
SEEN_BY_CURVE: Final = ("half the noise", "clip by tile")

Asked = tuple[str, Audited, str, int]  # judge, mechanism, planted, seed


def alarmed(asked: Asked) -> tuple[bool, float]:
    """Whether one audit raises an alarm, and the seconds of the processor that it took."""
    judge, kind, planted, seed = asked
    began = time.process_time()
    with FAULTS[planted][0]():
        if judge == "curve":
            raised = audit_mechanism(kind, seed).curve.broken > 0
        else:
            found = audit_mechanism(kind, seed, releases=_QUICK_RELEASES, canaries=_QUICK_CANARIES)
            raised = not all(check.passed for check in found.checks)
    return raised, time.process_time() - began


def measure(quick: bool = False) -> Iterator[BenchRow]:
    """All rows, for `python -m bench.audit`; `quick`: the direct checks of one seed."""
    sizes = BenchSizes(1, 0, 1) if quick else BenchSizes()
    yield from audits(sizes)
    if not quick:
        yield one_run()


@dataclass(frozen=True, slots=True)
class BenchSizes:
    """How many audits of each fault, and of each mechanism without one; how many at once."""

    seeds: int = 20
    correct: int = 50
    processes: int = 2


def audits(sizes: BenchSizes) -> Iterator[BenchRow]:
    """A row for each mechanism, judge and fault; curves are left out where nothing is correct."""
    wanted = [
        ("curve", kind, planted, sizes.seeds if planted != "nothing" else sizes.correct)
        for planted in ("nothing", *SEEN_BY_CURVE)
        for kind in AUDITED_MECHANISMS
        if sizes.correct
    ]
    wanted += [
        ("direct", kind, planted, sizes.seeds)
        for planted, (_, kinds) in FAULTS.items()
        for kind in kinds
    ]
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(sizes.processes, mp_context=spawned) as pool:
        for judge, kind, planted, seeds in wanted:
            audits = [(judge, kind, planted, seed) for seed in range(seeds)]
            found = list(pool.map(alarmed, audits))
            yield {
                "what": "empirical",
                "judge": judge,
                "mechanism": kind,
                "planted": planted,
                "seeds": seeds,
                "alarms": sum(raised for raised, _ in found),
                "cpu_seconds": sum(seconds for _, seconds in found),
            }


def one_run() -> BenchRow:
    """The lower bound of one release, which is no verdict."""
    began, found = time.process_time(), audit_one_run(0)
    return {
        "what": "one-run",
        "canaries": found.bound.canaries,
        "guesses": found.bound.guesses,
        "right": found.bound.right,
        "epsilon": found.bound.epsilon,
        "ceiling": found.bound.ceiling,
        "claimed": found.claimed,
        "delta": found.bound.delta,
        "cpu_seconds": time.process_time() - began,
    }


def missed(rows: Sequence[BenchRow]) -> list[str]:
    """What contradicts the aim."""
    found = []
    for row in rows:
        if row["what"] != "empirical":
            continue
        seeds, alarms = int(row["seeds"] or 0), int(row["alarms"] or 0)
        least = _CURVE_NEEDED * seeds if row["judge"] == "curve" else seeds
        if alarms if row["planted"] == "nothing" else alarms < least:
            found.append(f"{alarms} alarms in {seeds} audits: {dict(row)}")
    return found


def empirical_arguments() -> argparse.ArgumentParser:
    """The command line."""
    made, usual = parser("audit_empirical", __doc__ or ""), BenchSizes()
    made.add_argument("--seeds", type=int, default=usual.seeds, help="audits for each fault")
    made.add_argument(
        "--correct", type=int, default=usual.correct, help="of each mechanism without a fault"
    )
    made.add_argument("--processes", type=int, default=usual.processes, help="at once")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """`python -m bench.audit_empirical [--json] ...`."""
    options = empirical_arguments().parse_args(argv)
    rows = [*audits(BenchSizes(options.seeds, options.correct, options.processes)), one_run()]
    same = [row for row in rows if row["what"] == "empirical"]
    print_rows("audit_empirical", rows if options.json else same, as_json=options.json)
    if not options.json:
        print_rows("audit_empirical", rows[-1:], as_json=False)
    found = missed(rows)
    if found:
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()
