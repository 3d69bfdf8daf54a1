"""Did it learn, and do its pictures obey? From the run's own public figures, without a new one.

Only for the demo's synthetic hospitals: their held-out tiles are public, so their losses may be
shown. A real hospital's losses never leave it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from craftsfl.demo.figures import (
    SHIPPED,
    DemoReferences,
    PublicFigure,
    differences,
    read_references,
    recovered_share,
)
from privacy.errors import CraftsflError
from privacy.study.manifest import Study
from server.events import QualityMeasured, RunEvent

LOSS: Final = "denoising"
OBEDIENCE: Final = "alignment"
NOISE_OFF: Final = "noise-off"


@dataclass(frozen=True, slots=True)
class Compared:
    """The reference arms, or in words why these are not shown beside the run."""

    references: DemoReferences | None
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class Learning:
    """What the run's last adapter changed since the base; `noise_off`: trained after this run."""

    loss: PublicFigure
    obedience: PublicFigure | None
    compared: Compared
    noise_off: PublicFigure | None = None

    @property
    def best_without_noise(self) -> PublicFigure | None:
        """What the run is measured against."""
        found = self.compared.references
        if self.noise_off is not None or found is None or NOISE_OFF not in found.arms:
            return self.noise_off
        return found.arms[NOISE_OFF].loss

    @property
    def recovered(self) -> float | None:
        """The share of what training without noise teaches; None where that is nothing."""
        return recovered_share(self.loss, self.best_without_noise)


def compared_with(study: Study, file: Path = SHIPPED) -> Compared:
    """The shipped references, if they were measured on what `study` does."""
    try:
        found = read_references(file)
        odd = differences(found, study)
    except CraftsflError as error:
        return Compared(None, f"There are no reference figures to compare with: {error.message}")
    if odd:
        return Compared(
            None,
            f"The reference figures of {found.date} are not shown: they were measured with "
            f"another {' and another '.join(odd)}. {found.command} measures them again.",
        )
    return Compared(found)


def learning_of(events: Iterable[RunEvent], study: Study, compared: Compared) -> Learning | None:
    """From the figures of the run's last step; None where it has no figure of the loss."""
    last = {
        event.metric: figure_of(event)
        for event in events
        if isinstance(event, QualityMeasured) and event.round == study.rounds
    }
    if LOSS not in last:
        return None
    return Learning(last[LOSS], last.get(OBEDIENCE), compared)


def figure_of(event: QualityMeasured) -> PublicFigure:
    """An event's figure; an interval that it lacks is infinite."""
    low = -math.inf if event.low is None else event.low
    high = math.inf if event.high is None else event.high
    return PublicFigure(event.value - event.change, event.change, low, high, event.patients)
