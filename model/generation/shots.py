"""One picture to be drawn: a prompt, a seed and, where there is one, what it has to follow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from model.control.reading import Condition
from model.generation.prompts import Prompt
from model.sampling import Conditions
from privacy.errors import ModelError


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """One picture; the same in all three is the same picture."""

    prompt: Prompt
    seed: int
    condition: Condition | None = None


def shots(
    prompts: Sequence[Prompt], seeds: Sequence[int], conditions: Sequence[Condition] = ()
) -> tuple[Shot, ...]:
    """Every prompt with every condition and every seed, in this order, each once."""
    follow: Iterable[Condition | None] = conditions or (None,)
    different = tuple(dict.fromkeys(seeds))
    return tuple(Shot(p, seed, c) for p in prompts for c in follow for seed in different)


def seeds_from(given: Sequence[int], count: int) -> tuple[int, ...]:
    """`count` seeds from the one that is given (0 if none), or the given ones.

    Raises `ModelError` where both say how many, and beyond 64 bits.
    """
    if count > 1 and len(given) > 1:
        raise ModelError(
            f"{len(given)} seeds and a count of {count}.", "Give several seeds, or one and a count."
        )
    first = given[0] if given else 0
    seeds = tuple(given) or (0,) if count == 1 else tuple(range(first, first + count))
    if not -(2**63) <= min(seeds) <= max(seeds) < 2**63:
        raise ModelError("A seed has more than 64 bits.", "Choose smaller ones.")
    return seeds


def stacked(conditions: Sequence[Condition | None], strength: float) -> Conditions | None:
    """The conditions [n, C, s, s] as the sampler takes them; None where there are none."""
    planes = [condition.planes for condition in conditions if condition is not None]
    return Conditions(torch.stack(planes), strength) if planes else None


def preview(condition: Condition) -> Image.Image:
    """A grey picture of the strongest channel of a condition at each pixel."""
    strongest = condition.planes.amax(dim=0).clamp(0, 1) * 255
    return Image.fromarray(strongest.to(torch.uint8).numpy().astype(np.uint8))
