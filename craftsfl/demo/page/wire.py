"""What the coordinator saw of one hospital, and what opened: two pictures of the same numbers.

Every number is shown in units of what chance alone would make of it (a z-score over the steps so
far). Under masks it always stays within chance; what opens leaves chance where patients agree.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from craftsfl.demo.page.facts import Wire
from privacy.mechanisms.pooled.share import opened
from privacy.study.manifest import Study
from privacy.study.pooling import grid_of, pooled_terms
from privacy.wire.sealed import OpenedSum, Sealed
from server.step_store import StepStore
from strategies.pooled import link_of

_ASPECT: Final = 2.0
_REACH: Final = 4.0  # z at which a colour is full
_RARE: Final = 3.0  # z beyond which a number is counted
_PALE: Final = (245, 243, 240)
_BELOW: Final = (47, 111, 115)
_ABOVE: Final = (122, 46, 93)

_Values = NDArray[np.float64]


@dataclass
class WirePictures:
    """Follows the steps of one run in the coordinator's own store, and draws into `folder`."""

    study: Study
    store: StepStore
    folder: Path
    _last: int = 0
    _seen: _Values | None = field(default=None, repr=False)
    _opened: _Values | None = field(default=None, repr=False)

    def newest(self) -> Wire | None:
        """The pictures after the newest step; None while there is nothing new."""
        fresh = self.store.sums(after=self._last)
        hospital = ""
        for step, attempt, total in fresh:
            found = OpenedSum.decode(total)
            hospital = self._add(found, self.store.vectors((step, attempt)))
            self._last = step
        if not fresh or self._seen is None or self._opened is None:
            return None
        root = math.sqrt(self._last)
        seen, total_z = self._seen / root, self._opened / root
        names = [f"{kind}-{self._last:04d}.png" for kind in ("seen", "opened")]
        for name, values in zip(names, (seen, total_z), strict=True):
            draw_scores(values).save(self.folder / name)
        correlation = float(np.corrcoef(seen, total_z)[0, 1])
        return Wire(
            self._last,
            hospital,
            names[0],
            names[1],
            len(seen),
            correlation,
            seen_beyond=_beyond(seen),
            opened_beyond=_beyond(total_z),
            chance_beyond=math.erfc(_RARE / math.sqrt(2)) * len(seen),
        )

    def _add(self, found: OpenedSum, vectors: Mapping[str, bytes]) -> str:
        """Add one step; returns whose vector is shown: the first hospital's of those in it."""
        name = min(vectors)
        masked = replace(found, lanes=Sealed.decode(vectors[name]).lanes)
        grid = grid_of(self.study, len(found.cohort))
        size = len(found.cohort)
        noise = pooled_terms(self.study).noise_share(size) * math.sqrt(size)
        clear = opened(link_of(found, self.study).fields, grid) / noise
        under = opened(link_of(masked, self.study).fields, grid)
        under = under / under.std()
        self._opened = clear if self._opened is None else self._opened + clear
        self._seen = under if self._seen is None else self._seen + under
        return name


def _beyond(scores: _Values) -> int:
    return int(np.count_nonzero(np.abs(scores) > _RARE))


def draw_scores(values: _Values) -> Image.Image:
    """Numbers [P] in rows, twice as wide as high: pale is chance, colour is not."""
    columns = max(1, math.ceil(math.sqrt(_ASPECT * len(values))))
    rows = math.ceil(len(values) / columns)
    cells = np.zeros(rows * columns)
    cells[: len(values)] = np.clip(values / _REACH, -1, 1)
    strength = np.abs(cells)[:, None]
    colour = np.where(cells[:, None] > 0, np.array(_ABOVE), np.array(_BELOW))
    mixed = (1 - strength) * np.array(_PALE) + strength * colour
    return Image.fromarray(mixed.round().astype(np.uint8).reshape(rows, columns, 3))
