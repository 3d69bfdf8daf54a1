"""What `bench.augmentation` compares: tasks, arms, sizes, and the private adapter's training."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import Final

from bench.stage_two_setting import FULL as STAGE_TWO
from bench.stage_two_setting import TrainingPlan
from craftsfl.demo.tiles import RARE_CANCERS
from model.lab.augmentation.networks import NetworkRecipe
from model.lab.tissue.domain import RARE_TYPES, RareType
from model.lab.tissue.imagefolder import rare_caption
from model.lab.tissue.tile import MORPHOLOGIES

REAL_ARM: Final = "real"
PRIVATE_ARM: Final = "private"  # real + drawn with the private adapter
BASE_ARM: Final = "base"  # real + drawn by the base alone
SYNTHETIC_ARM: Final = "synthetic"  # drawn with the private adapter, no real one
AUGMENTED_ARMS: Final = (REAL_ARM, PRIVATE_ARM, BASE_ARM, SYNTHETIC_ARM)
AUGMENTED_DIFFERENCES: Final = (
    (PRIVATE_ARM, REAL_ARM),
    (BASE_ARM, REAL_ARM),
    (PRIVATE_ARM, BASE_ARM),
    (SYNTHETIC_ARM, REAL_ARM),
)
LABELLED_SHARES: Final = (0.05, 0.25, 1.0)
SSL_SHARE: Final = 0.25

# The common types that stage one's captions name, each by what its tiles show here; the rare ones
# look like papillae, mucin and fat, so no common type of the task "type" does.
COMMON_STUDIES: Final = {
    "glands": "COAD",
    "cribriform": "PRAD",
    "papillary": "KIRP",
    "solid_nests": "KICH",
    "spindle_cells": "GBM",
    "single_files": "STAD",
    "lymphoid": "DLBC",
    "necrosis": "LUSC",
    "mucin": "BRCA",
    "fat": "LAML",
    "keratin": "HNSC",
    "stroma": "PAAD",
}
RARE_PLANTED: Final[tuple[RareType, ...]] = tuple(
    rare for rare in RARE_TYPES if rare_caption(rare) in RARE_CANCERS
)
# Contents by number: first what common tiles show, then the rare types.
PLANTED: Final = (*MORPHOLOGIES, *(rare.name for rare in RARE_PLANTED))
OF_MORPHOLOGY: Final = frozenset(range(len(MORPHOLOGIES)))
RARE_CONTENTS: Final = frozenset(range(len(MORPHOLOGIES), len(PLANTED)))
_LOOKS_RARE: Final = {rare.morphology for rare in RARE_PLANTED}
OF_TYPE: Final = RARE_CONTENTS | {
    number for number, look in enumerate(MORPHOLOGIES) if look not in _LOOKS_RARE
}
# All of cross-attention, as in the demo: what is new is what words mean.
_CROSS: Final = ("attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0")
_PLAN: Final = replace(STAGE_TWO.private, targets=_CROSS)
_NETWORK: Final = NetworkRecipe()
_PRETRAINING: Final = NetworkRecipe(steps=200, batch=64, rate=2e-3)


@dataclass(frozen=True)
class AugmentedSetting:
    """Sizes of one seed's world; the same for every task, share and arm.

    common, rare: labelled patients of each common content and of each rare type, of one or two
    tiles; tested: patients of each content that nothing sees before. pictures: kept of each content
    by each model, of at most `drawn` that are drawn.
    """

    plan: TrainingPlan = _PLAN
    common: int = 24
    rare: int = 8
    tested: int = 24
    pictures: int = 24
    drawn: int = 36
    sampling_steps: int = 10
    guidance: float = 3.0
    network: NetworkRecipe = _NETWORK
    pretraining: NetworkRecipe = _PRETRAINING

    def drawing_digest(self, base: str) -> str:
        """Of what pictures depend on, besides seed and arm."""
        parts = [asdict(self.plan), self.pictures, self.drawn, self.sampling_steps, self.guidance]
        return _digest([*parts, RARE_CANCERS, base])

    def digest(self, base: str) -> str:
        """Of what a run depends on, besides its task, share, arm and seed."""
        return _digest([asdict(self), RARE_CANCERS, base])


def _digest(parts: list[object]) -> str:
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]


AUGMENTED: Final = AugmentedSetting()
# Too little to learn anything: every part runs, and the table is complete.
QUICK_AUGMENTED: Final = AugmentedSetting(
    plan=replace(STAGE_TWO.private, patients=12, drawn=4, steps=1),
    common=2,
    rare=1,
    tested=2,
    pictures=1,
    drawn=2,
    sampling_steps=2,
    network=NetworkRecipe(steps=2, batch=4),
    pretraining=NetworkRecipe(steps=1, batch=4),
)
