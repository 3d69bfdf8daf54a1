"""Finished runs of `bench.stage_two` on disk, and how losses compare with each other."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bench.output import BenchRow
from bench.stage_two_setting import BASELINE, BOTH, EFFECTS, GROUNDING, SHUFFLED

_Doubles = NDArray[np.float64]

STAGE_TWO_METRICS: Final = ("alignment", "obedience", "denoising", "drift", "frechet")
# Besides denoising, with which every loss is compared: does it beat what is recommended, and its
# own control?
_RIVALS: Final = ((EFFECTS, GROUNDING), (EFFECTS, SHUFFLED), (BOTH, GROUNDING))
RESAMPLES: Final = 4000
_LEVELS: Final = (2.5, 97.5)  # percentiles of a 95 % interval


@dataclass(frozen=True)
class StageTwoRun:
    """One adapter's figures: of each held-out patient, or of each public tile or caption."""

    loss: str
    private: bool
    seed: int
    alignment: tuple[float, ...]
    obedience: tuple[float, ...]
    denoising: tuple[float, ...]
    drift: tuple[float, ...]
    frechet: tuple[float, ...]  # a single figure for all patients together
    seconds: float = 0.0

    def row(self) -> BenchRow:
        """The row of the table: means."""
        means = {metric: float(np.mean(getattr(self, metric))) for metric in STAGE_TWO_METRICS}
        return {"loss": self.loss, "private": self.private, "seed": self.seed, **means}


class Finished:
    """Runs on disk, one line of JSON each; a line cut short by a kill is left out."""

    def __init__(self, path: Path, digest_of: Callable[[str, bool], str]) -> None:
        """`digest_of` (loss, private): what a run depends on; other runs are skipped."""
        self._path, self._digest_of = path, digest_of
        path.parent.mkdir(parents=True, exist_ok=True)

    def runs(self) -> list[StageTwoRun]:
        """All complete runs."""
        text = self._path.read_text(encoding="utf-8") if self._path.exists() else ""
        return [run for line in text.splitlines() if (run := self._parse(line)) is not None]

    def add(self, run: StageTwoRun) -> None:
        """Append `run`, on its own line even after a line that was cut short."""
        text = json.dumps({"setting": self._digest_of(run.loss, run.private), **asdict(run)})
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"\n{text}\n")

    def _parse(self, line: str) -> StageTwoRun | None:
        try:
            values = json.loads(line)
        except ValueError:
            return None
        setting = values.pop("setting")
        figures: dict[str, Any] = {name: tuple(values.pop(name)) for name in STAGE_TWO_METRICS}
        run = StageTwoRun(**values, **figures)
        return run if setting == self._digest_of(run.loss, run.private) else None


def comparisons(runs: Sequence[StageTwoRun], epsilon: float) -> list[BenchRow]:
    """Each loss less denoising alone, and less its rivals, per metric, with 95 % intervals.

    Paired: of each seed, both adapters began alike, met the same patients, timesteps and noise,
    and were measured on the same held-out patients (drift: public tiles). A seed without its
    counterpart is left out; below two seeds nothing is known of their spread, and there is no
    interval.
    """
    losses = dict.fromkeys(run.loss for run in runs if run.loss != BASELINE)
    pairs = [(loss, BASELINE) for loss in losses]
    pairs += _RIVALS
    return [
        row
        for private in (False, True)
        for loss, against in pairs
        for row in _compared(runs, (loss, against), private, epsilon)
    ]


def _compared(
    runs: Sequence[StageTwoRun], pair: tuple[str, str], private: bool, epsilon: float
) -> list[BenchRow]:
    """A row for each metric; none where no seed has both."""
    loss, against = pair
    base = {run.seed: run for run in runs if run.loss == against and run.private is private}
    own = [r for r in runs if r.loss == loss and r.private is private and r.seed in base]
    rows: list[BenchRow] = []
    for metric in STAGE_TWO_METRICS if own else ():
        both = [(getattr(run, metric), getattr(base[run.seed], metric)) for run in own]
        rows.append(
            {
                "loss": loss,
                "against": against,
                "private": private,
                "epsilon": epsilon if private else None,
                "metric": metric,
                "seeds": len(own),
                **paired([np.subtract(a, b) for a, b in both]),
            }
        )
    return rows


def paired(differences: Sequence[_Doubles]) -> dict[str, float | None]:
    """difference, low, high, t_low, t_high of per-seed differences: one array [patients] a seed.

    low and high are those of the hierarchical bootstrap (Davison and Hinkley 1997, section 3.8):
    seeds are drawn with replacement, then patients within each. Where a seed has one figure alone
    (Frechet), they are Student's. t_low and t_high are Student's over the seeds' means in any case:
    the wider ones where seeds are few.
    """
    means = np.array([difference.mean() for difference in differences])
    found: dict[str, float | None] = {"difference": float(means.mean())}
    found |= dict.fromkeys(("low", "high", "t_low", "t_high"))
    if len(means) < 2:
        return found
    found["t_low"], found["t_high"] = student_interval(means)
    single = all(len(d) == 1 for d in differences)
    found["low"], found["high"] = student_interval(means) if single else _hierarchical(differences)
    return found


def _hierarchical(differences: Sequence[_Doubles]) -> tuple[float, float]:
    random = np.random.default_rng(0)
    within = np.stack([_resampled(values, random) for values in differences])  # [seeds, R]
    seeds = random.integers(len(within), size=within.shape)
    columns = random.integers(within.shape[1], size=within.shape)  # a seed drawn twice: two draws
    low, high = np.percentile(within[seeds, columns].mean(axis=0), _LEVELS)
    return float(low), float(high)


def _resampled(values: _Doubles, random: np.random.Generator) -> _Doubles:
    """Means [R] of resamples of `values`."""
    drawn = random.integers(len(values), size=(RESAMPLES, len(values)))
    return np.asarray(values[drawn].mean(axis=1), np.float64)


def student_interval(values: _Doubles) -> tuple[float, float]:
    """Student's 95 % interval of the mean of two or more values."""
    from scipy import stats

    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def missing(
    runs: Iterable[StageTwoRun], wanted: Sequence[tuple[str, bool, int]]
) -> list[tuple[str, bool, int]]:
    """Those (loss, private, seed) of `wanted` that are not done."""
    done = {(run.loss, run.private, run.seed) for run in runs}
    return [key for key in wanted if key not in done]
