"""How a control is trained: pairs, sizes, step counts, seed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from model.lab.control.spec import UNTYPED
from privacy.errors import ModelError

_SPEED: Final = frozenset({"checkpoint_every", "trial", "trial_steps"})


@dataclass(frozen=True)
class PublicFolder:
    """Where pairs are; each image yields `crops` random squares, flipped and turned.

    smallest: the least side of a square, as a share of the image's shorter side. held_out: share
    of the images, the last by name, that training leaves to the trial. public: somebody said that
    the data are public, although a column names patients.
    """

    folder: Path
    crops: int = 24
    smallest: float = 0.5
    held_out: float = 0.1
    public: bool = False


@dataclass(frozen=True)
class ControlRecipe:
    """Fixed step counts, so that the same recipe makes the same control on the same machine.

    The defaults made weights/tiny-control. source: None for `tiles` tiles of drawn
    tissue, a share of them with free layouts. caption_dropout: share of pairs without their
    caption, so that the control reads the condition and not the words (Zhang et al. 2023, section
    3.4, use 0.5). trial: samples of each morphology that are measured at the end, of
    `trial_steps` steps.
    """

    source: PublicFolder | None = None
    types: tuple[str, ...] = UNTYPED
    markers: tuple[str, ...] = ("nuclear stain",)
    seed: int = 2026
    tiles: int = 8000
    free_share: float = 0.35
    steps: int = 1600
    batch: int = 16
    rate: float = 1e-3
    caption_dropout: float = 0.4
    ema_decay: float = 0.995
    shards: int = 1
    checkpoint_every: int = 250
    trial: int = 8
    trial_steps: int = 20

    def __post_init__(self) -> None:
        """Raise `ModelError` for sizes that train nothing."""
        if min(self.tiles, self.steps, self.batch, self.shards) < 1:
            raise ModelError("A recipe's counts are at least 1.", "Raise --steps or --batch.")
        if self.batch % self.shards:
            raise ModelError("The batch does not divide into its shards.", "Change --batch.")

    def changed(
        self,
        *,
        source: PublicFolder | None = None,
        types: tuple[str, ...] = (),
        steps: int | None = None,
        batch: int | None = None,
    ) -> ControlRecipe:
        """This recipe with the given values. A folder's markers are drawn from its masks, too."""
        return replace(
            self,
            source=source or self.source,
            types=types or self.types,
            steps=steps or self.steps,
            batch=batch or self.batch,
        )

    def outcome(self) -> dict[str, object]:
        """What determines the resulting control, as plain JSON."""
        values: dict[str, object] = json.loads(json.dumps(asdict(self), default=str))
        return {key: value for key, value in values.items() if key not in _SPEED}

    @classmethod
    def smoke(cls) -> ControlRecipe:
        """A run of seconds that exercises everything and learns nothing."""
        return cls(tiles=24, steps=3, batch=4, checkpoint_every=2, trial=2, trial_steps=1)
