"""A small valid study for the client's tests, and the consortium that it is of."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import shake_256
from pathlib import Path
from typing import Any

from client.settings import Policy
from craftsfl.simulation.members import SimulatedMembers
from privacy.study.manifest import Study

NAMES = ("north", "south", "east", "west")
MEMBERS = SimulatedMembers.seeded(NAMES, consortium="test")  # ids are places in NAMES, from 1
ROSTER = MEMBERS.roster
BOUND = 8.0
SITES = [{"name": name, "declared_patients": 10 * n} for n, name in enumerate(NAMES, start=1)]

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
    "aggregation": {"strategy": "fedavg"},
    "secure_aggregation": {"roster": ROSTER.digest().hex(), "bound": BOUND},
    "cohort": {"min_sites": 3, "round_deadline": 60.0, "reply_slot": 0.01},
    "sites": SITES[:3],
    "samples": {"prompts": ["glands"], "seeds": [1]},
}

POLICY: dict[str, Any] = {
    "epsilon": 20.0,
    "delta": 1e-5,
    "study_epsilon": 20.0,
    "studies": ("any",),
    "bases": ("any",),
    "mechanisms": ("local",),
    "roster": ROSTER.digest().hex(),
    "min_reply_slot": 0.001,
}


def seeded_bytes(seed: bytes) -> Callable[[int], bytes]:
    """Random bytes that anybody can make again."""
    count = iter(range(1 << 30))
    return lambda size: shake_256(seed + b"%d" % next(count)).digest(size)


def make_policy(**changes: Any) -> Policy:
    """A policy that allows the small study."""
    return Policy(**{**POLICY, **changes})


def make_study(members: int = 3, **changes: dict[str, Any] | Any) -> Study:
    """The small study of the first `members`; `training={"steps": 9}` changes keys of a table."""
    values = {**VALUES, "sites": SITES[:members]}
    for name, change in changes.items():
        values[name] = {**values.get(name, {}), **change} if isinstance(change, dict) else change
    return Study.model_validate(values)


def study_of(base: Path, **training: object) -> Study:
    """The small study on the base in this folder, with other values of `[training]`."""
    from model.digest import folder_digest

    return make_study(
        base={"digest": folder_digest(base), "source": str(base)}, training=dict(training)
    )
