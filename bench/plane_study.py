"""The study of `bench.plane`, in both modes, as the values of its file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from model.digest import folder_digest

PlaneMode = Literal["threshold", "pooled"]
PLANE_SITES: Final = ("east", "north", "west")
PLANE_PARAMETERS: Final = 768  # of the tiny base with these targets at rank 1, frozen A
_TARGETS: Final = ["attn2.to_q", "attn2.to_v"]
_ON: Final = "rehearsal: nobody learns anything here"


@dataclass(frozen=True)
class PlaneStudy:
    """How long the study is, and how patient; `attempts`: of a round, or spare ones in all."""

    rounds: int
    attempts: int = 2
    reply_slot: float = 1.0
    exchange_deadline: float = 20.0
    mode: PlaneMode = "threshold"

    def values(self, base: Path, roster: str, coordinator_key: str) -> Mapping[str, Any]:
        """The study file on the tiny base; `roster` and `coordinator_key` in hex."""
        shared: dict[str, Any] = {
            "name": "plane",
            "rounds": self.rounds,
            "base": {"digest": folder_digest(base), "source": str(base)},
            "cohort": {"min_sites": 3, "round_deadline": 120.0, "reply_slot": self.reply_slot},
            "sites": [{"name": name, "declared_patients": 100} for name in PLANE_SITES],
            "samples": {"prompts": ["glands"], "seeds": [1], "steps": 1},
        }
        own = self._pooled(coordinator_key) if self.mode == "pooled" else self._threshold()
        masks = {"roster": roster, "exchange_deadline": self.exchange_deadline}
        return {**shared, **own, "secure_aggregation": {**masks, **own["secure_aggregation"]}}

    def _threshold(self) -> dict[str, Any]:
        training = {
            "sampling_rate": 0.01,
            "steps": 1,
            "tiles_per_patient": 1,
            "draws_per_tile": 1,
            "clipping_norm": 1.0,
            "noise_multiplier": 20.0,
            "optimizer": "sgd",
            "learning_rate": 0.1,
        }
        return {
            "adapter": {"targets": _TARGETS, "rank": 1, "alpha": 2.0},
            "training": training,
            "privacy": {"delta": 1e-5, "attempts": self.attempts},
            "aggregation": {"strategy": "fedavg", "secure_aggregation": "required"},
            "secure_aggregation": {"bound": 0.1, "bits": 32},
        }

    def _pooled(self, coordinator_key: str) -> dict[str, Any]:
        chosen = ("clipping_norm", "learning_rate", "adapter", "rounds", "reply_slot")
        return {
            "adapter": {"targets": _TARGETS, "rank": 1, "alpha": 2.0, "frozen_a": True},
            "training": {
                "sampling_rate": 1.0,
                "steps": 1,
                "tiles_per_patient": 1,
                "draws_per_tile": 1,
                "clipping_norm": 0.01,
                "noise_multiplier": 100.0,
            },
            "privacy": {"mechanism": "pooled", "delta": 1e-5, "noise_colluders": 1},
            "pooled": {
                "parameters": PLANE_PARAMETERS,
                "spare_attempts": self.attempts,
                "coordinator_key": coordinator_key,
            },
            "chosen": dict.fromkeys(chosen, _ON),
            "aggregation": {"strategy": "adam", "learning_rate": 1e-4, "beta2": 0.95},
            "secure_aggregation": {},
        }
