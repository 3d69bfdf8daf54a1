"""One picture to draw: a prompt, a seed and, if there is one, the condition that it follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from model.lab.control.reading import Condition
from model.lab.drawing.prompts import Prompt
from model.sampling import Conditions
from privacy.errors import ModelError


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """One picture; equal in all three is the same picture."""

    prompt: Prompt
    seed: int
    condition: Condition | None = None


def shots(
    prompts: Sequence[Prompt],
    seeds: Sequence[int],
    conditions: Sequence[Condition] = (),
    *,
    count: int = 1,
) -> tuple[Shot, ...]:
    """The pictures of every prompt under every condition, in this order.

    With `seeds` and a count of 1, each with every seed: pictures to compare. Otherwise `count` of
    each, every picture with a seed of its own, counted from the given one, or from 0: with equal
    seeds, two prompts of one meaning would make the same picture twice. Raises `ModelError` for
    several seeds with a count, and for seeds beyond 64 bits.
    """
    if count > 1 and len(seeds) > 1:
        raise ModelError(
            f"{len(seeds)} seeds and a count of {count}.", "Give several seeds, or one and a count."
        )
    follow: Sequence[Condition | None] = conditions or (None,)
    pairs = [(prompt, condition) for prompt in prompts for condition in follow]
    if seeds and count == 1:
        made = [Shot(p, seed, c) for p, c in pairs for seed in dict.fromkeys(seeds)]
    else:
        number = iter(range(seeds[0] if seeds else 0, 2**64))
        made = [Shot(p, next(number), c) for p, c in pairs for _ in range(count)]
    if not all(-(2**63) <= shot.seed < 2**63 for shot in made):
        raise ModelError("A seed has more than 64 bits.", "Choose smaller ones.")
    return tuple(made)


def stacked_conditions(
    conditions: Sequence[Condition | None], strength: float
) -> Conditions | None:
    """The conditions [n, C, s, s] as the sampler takes them; None if there are none."""
    planes = [condition.planes for condition in conditions if condition is not None]
    return Conditions(torch.stack(planes), strength) if planes else None


def preview(condition: Condition) -> Image.Image:
    """A grey picture of the strongest channel of a condition at each pixel."""
    strongest = condition.planes.amax(dim=0).clamp(0, 1) * 255
    return Image.fromarray(strongest.to(torch.uint8).numpy().astype(np.uint8))
