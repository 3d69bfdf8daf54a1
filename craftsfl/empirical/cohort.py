"""The public stand-in cohort: canaries that nobody is, and studies of one step over them.

A canary is a made-up patient. Its tiles are noise far above what tissue looks like, so that its
gradient is long enough to be clipped, and its caption is a text of its own, so that its gradient
points where no other's does. The model is the base that ships with craftsfl.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import torch

from client.training import EncodedTiles
from craftsfl.simulation.members import SimulatedMembers, seeded_identity
from model.adapters import attach
from model.base import Pipeline, load_base
from model.cache import SHIPPED_BASE, locate_base
from privacy.config import check
from privacy.study.manifest import Study

Audited = Literal["local", "pooled"]

AUDITED_SITE: Final = "audited"
COHORT: Final = (1, 2, 3)  # of four sites: a share for another cohort is another share
RATE: Final = 0.5  # q where patients are drawn
CLIP: Final = 1e-3  # far below the gradient of any canary
AUDIT_DELTA: Final = 1e-5
TILES_EACH: Final = 4

_SIDE: Final = 4  # of a latent: the UNet takes any, and a small one in a hundredth of the time
_LOUD, _WORDY = 6.0, 2.0  # how far a canary's tiles and text are from anything known
_TARGETS: Final = ("attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0")
_NAMES: Final = (AUDITED_SITE, "second", "third", "fourth")
_COLLUDERS: Final = 1
_ON: Final = "rehearsal: the empirical audit"


@dataclass(frozen=True)
class StandIn:
    """Canaries, and the study in which they take part, with a multiplier of one for each share."""

    pipeline: Pipeline
    tiles: EncodedTiles
    study: Study
    members: SimulatedMembers
    canaries: int


def stand_in(kind: Audited, canaries: int, seed: int, tiles_each: int = TILES_EACH) -> StandIn:
    """So many canaries, from `seed`, under the mechanism of this `kind`.

    Raises `ModelError` where the base that ships with craftsfl is not installed.
    """
    pipeline = load_base(locate_base(SHIPPED_BASE), torch.device("cpu"))
    members = SimulatedMembers.seeded(_NAMES, consortium="empirical-audit")
    values = _values(members, canaries, tiles_each)
    if kind == "pooled":
        values = _pooled(values, pipeline)
    study = check(values, Study, where="the stand-in study")
    return StandIn(pipeline, _tiles(pipeline, canaries, tiles_each, seed), study, members, canaries)


def _tiles(pipeline: Pipeline, canaries: int, tiles_each: int, seed: int) -> EncodedTiles:
    random, config = np.random.default_rng([seed, 61]), pipeline.unet.config
    owners = np.repeat(np.arange(canaries), tiles_each)
    latents = _LOUD * random.standard_normal((canaries, config.in_channels, _SIDE, _SIDE))
    text = _WORDY * random.standard_normal((canaries, 8, config.cross_attention_dim))
    return EncodedTiles(
        latents=torch.tensor(latents[owners], dtype=torch.float32),
        text=torch.tensor(text, dtype=torch.float32),
        caption_of=torch.tensor(owners),
        patient_of=torch.tensor(owners),
    )


def _values(members: SimulatedMembers, canaries: int, tiles_each: int) -> dict[str, Any]:
    """A study in which each site adds all of its noise."""
    return {
        "name": "empirical-audit",
        "rounds": 1,
        "base": {"digest": "sha256:" + "0" * 64, "source": SHIPPED_BASE},
        "adapter": {"targets": list(_TARGETS), "rank": 4, "alpha": 4.0},
        "training": {
            "sampling_rate": RATE,
            "steps": 1,
            "tiles_per_patient": tiles_each,
            "draws_per_tile": 1,
            "clipping_norm": CLIP,
            "noise_multiplier": 1.0,
            "optimizer": "sgd",
            "learning_rate": 1.0,
        },
        "privacy": {"delta": AUDIT_DELTA},
        "aggregation": {"strategy": "fedavg"},
        "cohort": {"min_sites": len(COHORT), "round_deadline": 60.0, "reply_slot": 1.0},
        **members.sites(canaries),
        "samples": {"prompts": ["canary"], "seeds": [1]},
    }


def _pooled(values: dict[str, Any], pipeline: Pipeline) -> dict[str, Any]:
    """The same with shares of one noise; one of `COHORT` has a multiplier of one, as above."""
    hidden = len(COHORT) - _COLLUDERS
    adapter = values["adapter"] | {"frozen_a": True}
    study = check(values | {"adapter": adapter}, Study, where="the stand-in study")
    pooled = {
        "parameters": attach(pipeline.unet, study.adapter).parameters,
        "grid": 8.0,
        "spare_attempts": 1,
        "session_hours": 1.0,
        "coordinator_key": seeded_identity("coordinator of an audit").public.hex(),
    }
    chosen = ("clipping_norm", "learning_rate", "adapter", "rounds", "reply_slot")
    changed: dict[str, Any] = {
        "adapter": adapter,
        "training": values["training"]
        | {"sampling_rate": 1.0, "noise_multiplier": hidden**0.5}
        | {"optimizer": None, "learning_rate": None},
        "privacy": values["privacy"] | {"mechanism": "pooled", "noise_colluders": _COLLUDERS},
        "aggregation": {"strategy": "adam", "learning_rate": 0.02},
        "pooled": pooled,
        "chosen": dict.fromkeys(chosen, _ON),
        "secure_aggregation": {"roster": values["secure_aggregation"]["roster"]},
    }
    return values | changed
