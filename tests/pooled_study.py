"""A small pooled study as plain values, for tests to change and to validate as `Study`."""

from __future__ import annotations

from typing import Any, Final

from privacy.config import check
from privacy.identity import Identity
from privacy.study.manifest import Study

COORDINATOR: Final = Identity.from_seed(b"\x0c" * 32)  # proves nothing: anybody can make it
ROSTER: Final = "ab" * 32
_ON: Final = "rehearsal: a test"


def pooled_values(
    *, parameters: int = 4, rounds: int = 3, sites: int = 3, roster: str = ROSTER
) -> dict[str, Any]:
    """A pooled study of `sites` sites with 500 patients each."""
    return {
        "name": "pooled-study",
        "rounds": rounds,
        "base": {"digest": "sha256:" + "0" * 64, "source": "tiny"},
        "adapter": {
            "targets": ["attn2.to_v", "attn2.to_out.0"],
            "rank": 1,
            "alpha": 2,
            "frozen_a": True,
        },
        "training": {
            "sampling_rate": 1.0,
            "steps": 1,
            "tiles_per_patient": 2,
            "draws_per_tile": 2,
            "clipping_norm": 0.002,
            "noise_multiplier": 5.0,
        },
        "privacy": {"mechanism": "pooled", "delta": 1e-5, "noise_colluders": 1},
        "pooled": {
            "parameters": parameters,
            "grid": 8.0,
            "spare_attempts": 2,
            "session_hours": 2.0,
            "coordinator_key": COORDINATOR.public.hex(),
        },
        "chosen": dict.fromkeys(
            ("clipping_norm", "learning_rate", "adapter", "rounds", "reply_slot"), _ON
        ),
        "aggregation": {"strategy": "adam", "learning_rate": 0.02, "beta2": 0.95},
        "secure_aggregation": {"roster": roster},
        "cohort": {"min_sites": 3, "round_deadline": 120, "reply_slot": 60},
        "sites": [
            {"name": name, "declared_patients": 500}
            for name in (
                "north",
                "harbour",
                "hillside",
                *(f"site-{i}" for i in range(4, sites + 1)),
            )
        ],
        "samples": {"prompts": ["glands"], "seeds": [1]},
    }


def pooled_study(**sizes: Any) -> Study:
    """The study of `pooled_values(**sizes)`."""
    return check(pooled_values(**sizes), Study, where="study.toml")
