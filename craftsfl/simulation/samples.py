"""Small studies of the tiny base, as plain values: for examples, docstrings and tests."""

from __future__ import annotations

from typing import Any, Final, Literal

from model.cache import locate_base
from model.digest import folder_digest
from model.encoders.files import find_encoder
from privacy.config import check
from privacy.study.manifest import Study

_TARGETS: Final = ("attn1.to_v", "attn1.to_out.0", "attn2.to_v", "attn2.to_out.0")
_PARAMETERS: Final = 1536  # of the tiny base with these targets at rank 1, frozen A
_NOWHERE: Final = 64 * "0"  # roster and key: a simulation puts its own there
_BASE: Final = "tiny"
_ENCODER: Final = "tiny"
_WHY: Final = "rehearsal: a sample"


def sample_study(
    mechanism: Literal["pooled", "local"] = "pooled",
    *,
    sites: int = 3,
    patients: int = 16,
    rounds: int = 4,
    noise_multiplier: float = 4.0,
    with_encoder: bool = False,
) -> Study:
    """A study of the tiny base that takes seconds to simulate, and that no site should run.

    `mechanism`: "pooled", or "local" with FedAvg over two steps of each site's own. `rounds` are
    steps where the noise is pooled. `with_encoder`: its loss compares with a frozen encoder too.
    Raises `ConfigError` for what no study may be.
    """
    pooled = mechanism == "pooled"
    values: dict[str, Any] = {
        "name": f"sample-{mechanism}",
        "rounds": rounds,
        "base": {"digest": folder_digest(locate_base(_BASE)), "source": _BASE},
        "adapter": {"targets": _TARGETS, "rank": 1, "alpha": 1.0, "frozen_a": True},
        "training": {
            "sampling_rate": 1.0,
            "steps": 1,
            "tiles_per_patient": 1,
            "draws_per_tile": 1,
            "clipping_norm": 0.0005,
            "noise_multiplier": noise_multiplier,
            "loss": "stage-two" if with_encoder else "denoising",
            **({} if pooled else {"steps": 2, "optimizer": "adam", "learning_rate": 0.03}),
        },
        "stage_two": _stage_two() if with_encoder else None,
        "privacy": {"mechanism": mechanism, "delta": 1e-5, "noise_colluders": 1 if pooled else 0},
        "cohort": {"min_sites": sites, "round_deadline": 60.0, "reply_slot": 1.0},
        "secure_aggregation": {"roster": _NOWHERE, **({} if pooled else {"bound": 1.0})},
        "sites": [{"name": f"site-{i + 1}", "declared_patients": patients} for i in range(sites)],
        "samples": {"prompts": ["glands"], "seeds": [1]},
        **(_of_steps() if pooled else {"aggregation": {"strategy": "fedavg"}}),
    }
    return check(values, Study, where="the sample study")


def _of_steps() -> dict[str, Any]:
    return {
        "aggregation": {"strategy": "adam", "learning_rate": 0.04, "beta2": 0.95},
        "pooled": {"parameters": _PARAMETERS, "spare_attempts": 1, "coordinator_key": _NOWHERE},
        "chosen": dict.fromkeys(
            ("clipping_norm", "learning_rate", "adapter", "rounds", "reply_slot"), _WHY
        ),
    }


def _stage_two() -> dict[str, Any]:
    return {
        "structure": {
            "weight": 0.2,
            "margin": 0.9,
            "block": "up_blocks.0",
            "encoder": {"source": _ENCODER, "digest": find_encoder(_ENCODER).digest()},
        }
    }
