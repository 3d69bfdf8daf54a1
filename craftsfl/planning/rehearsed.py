"""Rehearsals that were measured: the table that ships with craftsfl, and the command that made it.

python -m bench.rehearsals --write craftsfl/planning/rehearsals.json
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Final

import numpy as np
from pydantic import Field

from privacy.config import Strict, check
from privacy.errors import ConfigError
from privacy.strict_json import read_json

_FILE: Final = "rehearsals.json"
_AGAIN: Final = "Make it again, in a checkout: python -m bench.rehearsals --write FILE"
_SMALL_END: Final = 0.95  # share of patients whose gradients are longer than the C that is proposed
_GRID: Final = (1.0, 2.0, 5.0)  # a proposed C is one of these times a power of ten


class RehearsedLayout(Strict):
    """An adapter on the rehearsed base, and what patients' gradients were like at its start.

    `norms`: quantiles of their lengths, in equal parts from 0 to 1. `coherence`: (C, g), g the
    length of the mean of all clipped gradients over C, without what chance alone makes of it.
    `reference`: gain of the best noise-off run, in per cent of the base's held-out loss.
    """

    name: str
    targets: tuple[str, ...] = Field(min_length=1)
    rank: int
    parameters: int
    norms: tuple[float, ...] = Field(min_length=2)
    coherence: tuple[tuple[float, float], ...] = Field(min_length=1)
    reference: float
    reference_rate: float

    def share_clipped(self, clipping_norm: float) -> float:
        """The share of patients whose gradient is longer than `clipping_norm`, 0 to 1."""
        places = np.linspace(0, 1, len(self.norms))
        return 1 - float(np.interp(clipping_norm, self.norms, places, left=0.0, right=1.0))

    def coherence_at(self, clipping_norm: float) -> float:
        """g at this C, between those that were measured; outside, that of the nearest."""
        norms, found = zip(*sorted(self.coherence), strict=True)
        return float(np.interp(np.log(clipping_norm), np.log(norms), found))

    def small_clip(self) -> float:
        """The largest round C at which nearly everybody is clipped (docs/adr/0043)."""
        most = float(np.interp(1 - _SMALL_END, np.linspace(0, 1, len(self.norms)), self.norms))
        rounds = [step * 10.0**power for power in range(-8, 3) for step in _GRID]
        return max((value for value in rounds if value <= most), default=rounds[0])


class RehearsedRun(Strict):
    """One adapter that was trained on drawn patients, measured on others.

    `snr`: g / rho of the run. `recovered`: its gain over that of the best noise-off run on the same
    patients, `low` to `high` a 95 % interval over held-out patients. `best_scale`: the adapter
    times this would have gained most, so the rate was too large where it is below 1.
    """

    layout: str
    patients: int
    steps: int
    snr: float
    rate: float
    seed: int
    recovered: float
    low: float
    high: float
    best_scale: float


class RehearsalTable(Strict):
    """Everything that a planner knows of training; all of it on synthetic tissue."""

    command: str
    base: str  # digest of the base that was trained
    gradient_seconds: float  # of one row on one core,
    probe_seconds: float  # while the probe took so long there
    layouts: tuple[RehearsedLayout, ...] = Field(min_length=1)
    runs: tuple[RehearsedRun, ...]

    def layout(self, name: str) -> RehearsedLayout:
        """The layout of this name."""
        return next(layout for layout in self.layouts if layout.name == name)


@lru_cache(maxsize=1)
def shipped_rehearsals() -> RehearsalTable:
    """The table that ships with craftsfl."""
    text = files("craftsfl.planning").joinpath(_FILE).read_text(encoding="utf-8")
    return _read(text, _FILE)


def load_rehearsals(path: Path) -> RehearsalTable:
    """A table of one's own, of another base. Raises `ConfigError`."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.", "Check the path.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not a text in UTF-8.", _AGAIN) from None
    return _read(text, str(path))


def _read(text: str, where: str) -> RehearsalTable:
    try:
        values = read_json(text)
    except ValueError as error:
        raise ConfigError(f"{where} is not JSON: {error}.", _AGAIN) from None
    return check(values, RehearsalTable, where=where, hint=_AGAIN)
