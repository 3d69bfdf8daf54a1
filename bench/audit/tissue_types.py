"""Rows "types": what private training costs a rare type of tissue, and what a common one.

Public, synthetic tissue: cancers and stains that the base has never seen (`model.lab.tissue`).
Of two types one is common and the other rare, in turn; the other types are what is left. The same
patients, draws and steps are trained twice, without noise and with the noise that a pooled study
of three sites opens, at the ε that a row names. Patients are counted as many times as it takes to
make the study's number of them: a sum's signal is that of so many, its noise what it is.

`gain`: share of the base's denoising loss, on other patients of that type, that an adapter takes
away; `kept`: what is left of the gain without noise when there is noise. `low`, `high`: twice the
standard error over pairs of types.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.output import BenchRow
from bench.pooled_gradients import SharedRows
from bench.pooled_held_out import held_out_losses
from bench.pooled_setting import LARGER_POOLED, PooledSetting, RunConstants
from bench.pooled_together import PooledPlan, SumsKept, train_together
from bench.stage_two_run import written_domain
from client.training import EncodedTiles, encode_site
from craftsfl.planning.tissue import PooledSites
from model.base import Pipeline, load_base
from model.cache import locate_base
from model.lab.tissue.domain import RARE_TYPES, DomainTiles, draw_domain
from strategies.rule import UpdateRule

_KINDS: Final = len(RARE_TYPES)
_PAIRS: Final = ((0, 5), (3, 6))  # places in RARE_TYPES: unlike each other
_SEED: Final = 71_000
_ARMS: Final = ("noise-off", "central")
_SETTING: Final = replace(
    LARGER_POOLED, reference=RunConstants(UpdateRule("adam", 0.06)), steps=12, evaluation_draws=8
)


@dataclass(frozen=True, slots=True)
class _Size:
    """Patients that are drawn: of the common type, of each other one, of the rare one."""

    common: int = 60
    others: int = 6
    rare: int = 2
    held_out: int = 24
    pairs: int = 2
    steps: int = 12


def measure(quick: bool) -> Iterator[BenchRow]:
    """One row for each role of a type and each arm, then what is kept."""
    size = _Size(4, 1, 1, 2, 1, 1) if quick else _Size()
    pipeline = load_base(locate_base("tiny"))
    setting = replace(_SETTING, steps=size.steps)
    pairs = [pair for one in _PAIRS[: size.pairs] for pair in (one, one[::-1])]
    found = [_gains(pipeline, setting, size, common, rare) for common, rare in pairs]
    yield from _rows(setting, size, found)


def _rows(
    setting: PooledSetting, size: _Size, found: Sequence[Mapping[tuple[str, str], float]]
) -> Iterator[BenchRow]:
    whole = size.common + size.rare + (_KINDS - 2) * size.others
    shares = {"common": size.common / whole, "rare": size.rare / whole}
    for role, share in shares.items():
        for arm in _ARMS:
            own = np.array([one[role, arm] for one in found])
            plain = np.mean([one[role, "noise-off"] for one in found])
            yield {
                "what": "types",
                "type": role,
                "share": round(share, 4),
                "patients": round(share * setting.everybody),
                "epsilon": 0.0 if arm == "noise-off" else setting.epsilon,
                "arm": arm,
                "gain": float(own.mean()),
                **_interval(own),
                "kept": float(own.mean() / plain),
                "pairs": len(own),
            }


def _interval(values: NDArray[np.float64]) -> dict[str, float]:
    error = 2 * float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return {"low": float(values.mean()) - error, "high": float(values.mean()) + error}


def _gains(
    pipeline: Pipeline, setting: PooledSetting, size: _Size, common: int, rare: int
) -> dict[tuple[str, str], float]:
    """Of one study: gains by role ("common", "rare") and arm."""
    counts = [size.others] * _KINDS
    counts[common], counts[rare] = size.common, size.rare
    seed = _SEED + _KINDS * common + rare
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        train, patients = _encoded(pipeline, _domain(counts, seed, 0), cache / "train")
        apart = {}
        for role, kind in (("common", common), ("rare", rare)):
            own = [size.held_out if kind == place else 0 for place in range(_KINDS)]
            apart[role], _ = _encoded(pipeline, _domain(own, seed, 10_000), cache / role)
        sites = PooledSites(train, (patients,), apart["rare"], ())
        rows = SharedRows(pipeline, setting.adapter, sites, setting.private.draws)
        plans = [PooledPlan(arm, setting, seed) for arm in _ARMS]
        kept = SumsKept(cache / "sums.jsonl")
        trained = train_together(plans, rows, kept, lambda done, of: None)
        vectors = [np.zeros(rows.parameters, np.float32)]
        vectors += [trained[plan].adapter for plan in plans]
        found = {}
        for role, tiles in apart.items():
            base, *losses = held_out_losses(
                *(pipeline, setting.adapter, vectors, tiles, seed, setting.evaluation_draws)
            )
            for arm, own_losses in zip(_ARMS, losses, strict=True):
                found[role, arm] = 1 - float(own_losses.mean() / base.mean())
    return found


def _domain(counts: Sequence[int], seed: int, first: int) -> DomainTiles:
    """Patients, so many of each type; `first`: a multiple of the number of types and stains."""
    drawn = [
        draw_domain(1, 1, seed, first=first + kind + _KINDS * number)
        for kind, count in enumerate(counts)
        for number in range(count)
    ]
    return DomainTiles(
        np.concatenate([one.images for one in drawn]),
        tuple(caption for one in drawn for caption in one.captions),
        np.arange(len(drawn), dtype=np.int64),
        np.concatenate([one.stain_of for one in drawn]),
        np.concatenate([one.type_of for one in drawn]),
    )


def _encoded(pipeline: Pipeline, tiles: DomainTiles, cache: Path) -> tuple[EncodedTiles, int]:
    with tempfile.TemporaryDirectory() as folder:
        data = written_domain(Path(folder), tiles)
        return encode_site(pipeline, data, base_digest="tiny", cache=cache), data.patients
