"""The model card of an exported adapter; public facts only, and the same text every time."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Final

from craftsfl.privacy_words import epsilon_text
from craftsfl.rounds.exporting.figures import ExportFigures
from craftsfl.rounds.exporting.licences import LicenceLink, chain_words
from model.peft_files import PEFT_CONFIG, PEFT_WEIGHTS
from privacy.events import ALWAYS_CHARGED
from privacy.study.manifest import Study
from privacy.visible import visible
from server.status import QualityStatus, RunStatus

DIFFUSERS_WEIGHTS: Final = "pytorch_lora_weights.safetensors"  # the name that diffusers looks for

_CARD: Final = """\
---
base_model: {source_yaml}
library_name: diffusers
pipeline_tag: text-to-image
{licence}tags: [lora, histopathology, federated-learning, differential-privacy]
---
# {study}, run {run}

A LoRA adapter for a latent diffusion model that draws histopathology tiles. {sites} hospitals
trained it together in {rounds} {unit}s with craftsfl; no tile left a hospital, and the coordinator
saw only sums. Pictures that it draws are synthetic: no patient, no specimen, no diagnosis. **Not
for clinical use.** Whether they are good enough for anything else has to be shown for that use.

| | |
|---|---|
| study | `{study}`, SHA-256 `{digest}`: study.toml |
| base | `{base}` ({source}) |
| adapter | LoRA of rank {rank}, alpha {alpha:g}, of {targets}{frozen} |
| sites | {patients} |

## Privacy

{claim}

| who looks | ε |
|---|---|
{against}

| site | declared patients | published by its ledger |
|---|---|---|
{published}

ε counts every attempt that the study allows, whether or not it was needed: that bound holds however
the runs went. What was used of a budget is not published, because it bounds nothing. The same ε
holds for pictures that are drawn with the adapter, however many there are.

## Does it learn?

{quality}

## Load it

On exactly the base above. With diffusers:

```python
pipeline.load_lora_weights("FOLDER", weight_name="{diffusers}")
```

With peft:

```python
unet = peft.PeftModel.from_pretrained(pipeline.unet, "FOLDER")  # {config}, {weights}
```

With craftsfl, which checks the base and every layer:

```sh
craftsfl model sample "PROMPT" --adapter FOLDER/{diffusers} --out picture.png
```

## Licences

{licences}
"""
_WHO: Final = {
    "server": "the coordinator",
    "site": "another hospital",
    "coalition": "the coordinator with as many hospitals as the study names",
    "public": "whoever has this adapter",
    "masks-broken": "whoever undoes the masks",
}


def export_card(
    study: Study, status: RunStatus, figures: ExportFigures, chain: Sequence[LicenceLink]
) -> str:
    """The README.md of the folder."""
    own = chain[-1].licence
    return _CARD.format(
        source=visible(study.base.source),
        source_yaml=json.dumps(visible(study.base.source)),
        licence="" if own is None else f"license: {own.lower()}\n",
        study=study.name,
        run=status.run,
        sites=len(study.sites),
        rounds=status.rounds_done,
        unit=status.unit,
        digest=study.digest().hex(),
        base=study.base.digest,
        rank=study.adapter.rank,
        alpha=study.adapter.alpha,
        targets=", ".join(f"`{target}`" for target in study.adapter.targets),
        frozen=" (factors A are public and were not trained)" if study.adapter.frozen_a else "",
        patients=", ".join(f"{site.name} ({site.declared_patients})" for site in study.sites),
        claim=_claim(figures),
        against="\n".join(_against(figures)),
        published="\n".join(_published(study, figures)),
        quality="\n".join(_quality(status)),
        diffusers=DIFFUSERS_WEIGHTS,
        config=PEFT_CONFIG,
        weights=PEFT_WEIGHTS,
        licences=chain_words(chain),
    )


def _claim(figures: ExportFigures) -> str:
    if math.isinf(figures.claim):
        return "**None: the study adds no noise.** Treat the adapter like the tiles themselves."
    return (
        f"ε = **{figures.claim:.4g}** at δ = {figures.delta:g} for a patient of one hospital, over "
        f"the study's whole schedule of {figures.attempts} attempts."
    )


def _against(figures: ExportFigures) -> Iterator[str]:
    for who, value in figures.against.items():
        note = "" if who in ALWAYS_CHARGED else " (a site's policy may charge it)"
        yield f"| {_WHO[who.value]}{note} | {epsilon_text(value)} |"


def _published(study: Study, figures: ExportFigures) -> Iterator[str]:
    for site in study.sites:
        figure = figures.sites.get(site.name)
        told = "not given" if figure is None else f"ε = {figure.epsilon:.4f}"
        if figure is not None and figure.masks_broken is not None:
            told += f"; {figure.masks_broken:.2f} against whoever undoes the masks"
        yield f"| {site.name} | {site.declared_patients} | {told} |"


def _quality(status: RunStatus) -> Iterator[str]:
    last = [item for item in status.quality if item.round == status.rounds]
    if not last:
        yield "No figure on public tiles was measured after the last round."
        return
    yield "| on public tiles | change since the base | 95 % interval over patients | patients |"
    yield "|---|---|---|---|"
    yield from map(_row, last)
    yield "\nOf a loss (denoising) less is better, of alignment more. Where the interval holds 0, "
    yield "nothing has been shown."


def _row(item: QualityStatus) -> str:
    interval = f"{item.low:.4g} to {item.high:.4g}"
    return f"| {item.metric} | {item.change:.4g} | {interval} | {item.patients} |"
