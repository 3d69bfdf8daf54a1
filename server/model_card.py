"""What stands beside an adapter in MLflow: a description of its run, and a model card."""

from __future__ import annotations

import math
from dataclasses import dataclass

from model.origin import Origin
from privacy.study.manifest import Study
from server.status import RunStatus

_CARD = """\
# {study}, run {run}

A LoRA adapter for a latent diffusion model that draws histopathology tiles. {sites} sites trained
it together in {rounds} {unit}s; no tile left a site, and the coordinator saw only sums. Pictures
that it draws are synthetic: no patient, no specimen, no diagnosis. Whether they are good enough for
anything has to be shown for that use: `craftsfl model evaluate`.

| | |
|---|---|
| study | `{study}`, SHA-256 `{digest}`; the file is beside this run as `study/study.toml` |
| base | `{base}`{source} |
| adapter | LoRA of rank {rank}, alpha {alpha:g}, of {targets} |
| file | `{file}`, SHA-256 `{sha256}` |

## Privacy

Of this adapter: {claim}.

| site | declared patients | {unit}s in which it took part | ε used of its budget |
|---|---|---|---|
{table}

ε is patient-level, from each site's own ledger, over everything that the site took part in; what
may be claimed of the adapter is the line above the table.

## How to load it

With craftsfl, which checks base, layers and the SHA-256 that is registered:

```sh
craftsfl model sample "PROMPT" --out picture.png \\
  --adapter models:/{study}/VERSION --tracking-uri URI
```

With diffusers, on exactly the base above:

```python
pipeline.load_lora_weights("FOLDER", weight_name="{file}")
```
"""


@dataclass(frozen=True, slots=True)
class AdapterFacts:
    """The released file's name and SHA-256 (hex), and what its own metadata claim."""

    file: str
    sha256: str
    origin: Origin | None


def describe_run(study: Study, status: RunStatus) -> str:
    """A paragraph about the run, for MLflow's description (Markdown)."""
    noise = study.training.noise_multiplier
    privacy = f"noise multiplier {noise:g}" if noise else "no noise, no privacy"
    return (
        f"Run {status.run} of the study **{study.name}** (SHA-256 `{study.digest().hex()}`): "
        f"{len(study.sites)} sites, {study.rounds} {status.unit}s, secure aggregation, {privacy}. "
        f"MLflow's step is a {status.unit}. "
        "This is a view of the coordinator's round state: `craftsfl rounds status`."
    )


def model_card(study: Study, status: RunStatus, adapter: AdapterFacts) -> str:
    """The card of the adapter that the run released (Markdown); public facts only."""
    return _CARD.format(
        study=study.name,
        run=status.run,
        sites=len(study.sites),
        rounds=status.rounds_done,
        unit=status.unit,
        digest=study.digest().hex(),
        base=study.base.digest,
        source=f" ({study.base.source})" if study.base.source else "",
        rank=study.adapter.rank,
        alpha=study.adapter.alpha,
        targets=", ".join(f"`{target}`" for target in study.adapter.targets),
        file=adapter.file,
        sha256=adapter.sha256,
        claim=_claim(study, adapter.origin),
        table="\n".join(_rows(status)),
    )


def _claim(study: Study, origin: Origin | None) -> str:
    if study.training.noise_multiplier == 0:
        return "no promise: the study adds no noise"
    return origin.privacy() if origin is not None else "its file does not say"


def _rows(status: RunStatus) -> list[str]:
    return [
        f"| {site.name} | {site.declared_patients} | {site.rounds} | {_epsilon(site.epsilon)} |"
        for site in status.sites
    ]


def _epsilon(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "no noise, no privacy"
