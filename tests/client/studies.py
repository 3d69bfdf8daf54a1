"""A small valid study for the client's tests."""

from __future__ import annotations

from typing import Any

from client.settings import Policy
from privacy.study.manifest import Study

VALUES: dict[str, Any] = {
    "name": "demo",
    "rounds": 3,
    "base": {"digest": "sha256:" + "ab" * 32, "source": "tiny"},
    "adapter": {"targets": ["attn2.to_q"], "rank": 1, "alpha": 2.0},
    "training": {
        "sampling_rate": 0.5,
        "steps": 4,
        "tiles_per_patient": 2,
        "draws_per_tile": 1,
        "clipping_norm": 1.0,
        "noise_multiplier": 1.0,
        "optimizer": "sgd",
        "learning_rate": 0.1,
    },
    "privacy": {"delta": 1e-5, "attempts": 2},
    "aggregation": {"strategy": "fedavg", "secure_aggregation": "plain"},
    "cohort": {"min_sites": 1, "round_deadline": 60.0, "reply_slot": 0.01},
    "sites": [
        {"name": "north", "declared_patients": 10},
        {"name": "south", "declared_patients": 20},
    ],
    "samples": {"prompts": ["glands"], "seeds": [1]},
}

POLICY: dict[str, Any] = {
    "epsilon": 20.0,
    "delta": 1e-5,
    "study_epsilon": 20.0,
    "studies": ("any",),
    "bases": ("any",),
    "mechanisms": ("local",),
    "secure_aggregation": "plain",
    "min_reply_slot": 0.001,
}


def make_policy(**changes: Any) -> Policy:
    """A policy that allows the small study."""
    return Policy(**{**POLICY, **changes})


def make_study(**changes: dict[str, Any] | Any) -> Study:
    """The small study; `training={"steps": 9}` changes single keys of a table."""
    values = dict(VALUES)
    for name, change in changes.items():
        values[name] = {**values.get(name, {}), **change} if isinstance(change, dict) else change
    return Study.model_validate(values)
