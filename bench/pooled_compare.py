"""Finished runs of `bench.pooled` on disk, their rows, and how arms compare."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.output import BenchRow
from bench.stage_two_compare import RESAMPLES, paired

_Doubles = NDArray[np.float64]

_LEVELS: Final = (2.5, 97.5)  # percentiles of a 95 % interval
# (name, arm, the arm that it is divided by, or that is subtracted)
_RATIOS: Final = (
    ("recovered", "pooled", "noise-off"),
    ("recovered, central", "central", "noise-off"),
    ("pooled/central", "pooled", "coupled"),
    ("pooled/central, other noise", "pooled", "central"),
    ("pooled/calibrated", "pooled", "calibrated"),
)
_DIFFERENCES: Final = (
    ("pooled-local", "pooled", "local"),
    ("pooled-alone", "pooled", "alone"),
    ("pooled-central", "pooled", "coupled"),
    ("pooled-central, other noise", "pooled", "central"),
)


@dataclass(frozen=True)
class PooledRun:
    """One adapter's figures. `base` and `trained`: held-out loss of each patient, without and with
    the adapter. `alignment`: of each drawn image with its own caption, less its mean over others.
    """

    arm: str
    seed: int
    base: tuple[float, ...]
    trained: tuple[float, ...]
    alignment: tuple[float, ...]
    seconds: float = 0.0  # of a processor

    @property
    def gains(self) -> _Doubles:
        """Of each held-out patient: how much of the base's mean loss the adapter took away."""
        return np.asarray(np.subtract(self.base, self.trained) / np.mean(self.base))

    def row(self, epsilon: float) -> BenchRow:
        """The row of the table. Without noise there is no epsilon."""
        return {
            "arm": self.arm,
            "seed": self.seed,
            "epsilon": None if self.arm == "noise-off" else epsilon,
            "gain": float(self.gains.mean()),
            "alignment": float(np.mean(self.alignment)),
        }


class PooledRuns:
    """Runs on disk, one line of JSON each; a line cut short by a kill is left out."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def finished(self) -> dict[tuple[str, int], PooledRun]:
        """All complete runs, by what they depend on (`PooledSetting.digest`) and seed."""
        text = self._path.read_text(encoding="utf-8") if self._path.exists() else ""
        found = [_parsed(line) for line in text.splitlines()]
        return {(digest, run.seed): run for digest, run in filter(None, found)}

    def add(self, digest: str, run: PooledRun) -> None:
        """Append `run`, on its own line even after a line that was cut short."""
        text = json.dumps({"setting": digest, **asdict(run)})
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"\n{text}\n")


def _parsed(line: str) -> tuple[str, PooledRun] | None:
    try:
        values = json.loads(line)
    except ValueError:
        return None
    digest = values.pop("setting")
    for name in ("base", "trained", "alignment"):
        values[name] = tuple(values[name])
    return digest, PooledRun(**values)


def pooled_comparisons(runs: Sequence[PooledRun]) -> list[BenchRow]:
    """Ratios and differences of gains between arms, each with a 95 % interval.

    Paired: of each seed, both arms began alike and met the same patients and draws. A seed that
    lacks one of them is left out. Resampled are seeds and, within each, patients (hierarchical
    bootstrap); of a single seed, patients alone, so that its interval knows nothing of other seeds.
    """
    gains: dict[str, dict[int, _Doubles]] = {}
    for run in runs:
        gains.setdefault(run.arm, {})[run.seed] = run.gains
    rows: list[BenchRow] = []
    for name, arm, other in (*_RATIOS, *_DIFFERENCES):
        pairs = _pairs(gains, arm, other)
        if not pairs:
            continue
        found = _ratio(pairs) if (name, arm, other) in _RATIOS else _difference(pairs)
        rows.append({"comparison": name, "seeds": len(pairs), **found})
    return rows


def difference_of_gains(
    name: str, runs: Sequence[PooledRun], against: Sequence[PooledRun]
) -> BenchRow:
    """One row of `pooled_comparisons`: gains of `runs` less those `against`, seed by seed."""
    other = {run.seed: run.gains for run in against}
    pairs = [(run.gains, other[run.seed]) for run in runs if run.seed in other]
    return {"comparison": name, "seeds": len(pairs), **_difference(pairs)}


def _pairs(
    gains: Mapping[str, Mapping[int, _Doubles]], arm: str, other: str
) -> list[tuple[_Doubles, _Doubles]]:
    own, against = gains.get(arm, {}), gains.get(other, {})
    return [(own[seed], against[seed]) for seed in sorted(own.keys() & against.keys())]


def _difference(pairs: Sequence[tuple[_Doubles, _Doubles]]) -> dict[str, float | None]:
    differences = [own - against for own, against in pairs]
    if len(pairs) > 1:
        return {"ratio": None, **paired(differences)}
    low, high = _within(differences)
    return {"ratio": None, "difference": float(differences[0].mean()), "low": low, "high": high}


def _ratio(pairs: Sequence[tuple[_Doubles, _Doubles]]) -> dict[str, float | None]:
    """Ratio of mean gains; both means are resampled together, so that what they share cancels."""
    random = np.random.default_rng(0)
    counts = [len(own) for own, _ in pairs]
    drawn = [random.integers(count, size=(RESAMPLES, count)) for count in counts]
    above = np.stack([own[d].mean(axis=1) for (own, _), d in zip(pairs, drawn, strict=True)])
    below = np.stack([other[d].mean(axis=1) for (_, other), d in zip(pairs, drawn, strict=True)])
    seeds = random.integers(len(pairs), size=above.shape)  # of one seed: always that one
    columns = random.integers(RESAMPLES, size=above.shape)
    ratios = above[seeds, columns].mean(axis=0) / below[seeds, columns].mean(axis=0)
    low, high = np.percentile(ratios, _LEVELS)
    own = np.mean([own.mean() for own, _ in pairs])
    other = np.mean([other.mean() for _, other in pairs])
    return {
        "ratio": float(own / other),
        "difference": None,
        "low": float(low),
        "high": float(high),
    }


def _within(differences: Sequence[_Doubles]) -> tuple[float, float]:
    random = np.random.default_rng(0)
    values = differences[0]
    means = values[random.integers(len(values), size=(RESAMPLES, len(values)))].mean(axis=1)
    low, high = np.percentile(means, _LEVELS)
    return float(low), float(high)
