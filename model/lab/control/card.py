"""The model card of a control: what it was trained on, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping

from model.lab.control.agreement import MEASURES
from model.lab.control.fidelity import Fidelity
from model.lab.control.recipe import ControlRecipe
from model.lab.control.spec import ControlSpec

_TEXT = """---
license: apache-2.0
library_name: diffusers
tags: [controlnet, synthetic]
---
# A control for {what}

A ControlNet (Zhang et al. 2023) for images of {size} px, made by `craftsfl model pretrain-control`.
It is for demonstrations and tests, **not for any medical use**.

| | |
|---|---|
| base | `{base}` |
| parameters | {parameters:,}, half precision |
| channels of the condition, 0 to 1 | {channels} |
| trained on | {source} |
| steps | {steps:,} of {batch}, peak rate {rate}, EMA {ema_decay}, seed {seed} |
| captions left out | {caption_dropout:.0%} |

The base was frozen.

## Mask fidelity

Samples of {held_out}, segmented by stain deconvolution, Otsu's threshold
and watershed, and compared with their own mask; with the mask of another image (for drawn tissue,
of the same morphology); and real tiles with their own masks. Means and 95 % bootstrap intervals
over the images.
{tables}"""
_DRAWN = "{tiles:,} drawn tiles (`model/lab/tissue`), {free:.0%} of them with free layouts"
_FOLDER = "a public folder of images and masks, {crops} squares of each"


def control_card(
    spec: ControlSpec,
    recipe: ControlRecipe,
    parameters: int,
    measured: Mapping[str, Fidelity],
) -> str:
    """The text of README.md; `measured` holds a fidelity for each way to be conditioned."""
    if recipe.source is None:
        source = _DRAWN.format(tiles=recipe.tiles, free=recipe.free_share)
    else:
        source = _FOLDER.format(crops=recipe.source.crops)
    return _TEXT.format(
        **vars(recipe) | {"source": source},
        what=" and ".join(_kinds(spec)),
        parameters=parameters,
        size=spec.size,
        base=spec.base,
        channels=", ".join(spec.names),
        held_out="held-out drawn tiles" if recipe.source is None else "images held out",
        tables="".join(_table(kind, fidelity) for kind, fidelity in measured.items()),
    )


def _kinds(spec: ControlSpec) -> list[str]:
    return ["nuclear masks"] * bool(spec.types) + ["fluorescence"] * bool(spec.markers)


def _table(kind: str, fidelity: Fidelity) -> str:
    lines = [f"\nConditioned on {kind}, {fidelity.images} images, seed {fidelity.seed}:\n"]
    lines += ["| | " + " | ".join(MEASURES) + " |", "|---" * (1 + len(MEASURES)) + "|"]
    for comparison, table in fidelity.estimates.items():
        cells = (f"{e.mean:.2f} ({e.low:.2f} to {e.high:.2f})" for e in table.values())
        lines.append(f"| {comparison} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
