"""The model card of a base that stage one trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from model.lab.stage_one.settings import StageOneSettings

_TEXT: Final = """---
library_name: diffusers
pipeline_tag: text-to-image
---
# A base for federated fine-tuning

Made by `craftsfl model pretrain` from another base on public captioned pictures. **Stage one is not
private**: nothing was clipped or noised, so this model may remember what it was shown, and must not
have been shown any hospital's own data. It is **not for any medical use**. The licences of the base
and of the pictures apply.

| | |
|---|---|
| started from | `{base}` |
| pictures | {pictures:,}, of which {broken:,} could not be used (`quarantine.csv`) |
| fingerprint of names and sizes | `{fingerprint}` |
| size | {size} x {size} px |
| trained | {trained} |
| precision, processes | {precision}, {processes} |
| prediction | {prediction} |

Weights are averaged over steps (EMA). Captions are dropped with probability {caption_dropout}, so
classifier-free guidance works. `training.jsonl` holds the losses.

## Settings

```toml
{settings}
```

## To use it

`craftsfl model install FOLDER` at each site, and in study.toml:

```toml
[base]
digest = "{digest}"
source = "FOLDER"
```
"""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the card says in addition to the settings."""

    base: str  # digest
    digest: str  # of the new base
    fingerprint: str
    pictures: int
    broken: int
    size: int
    prediction: str
    precision: str
    processes: int


def stage_one_card(facts: Facts, settings: StageOneSettings) -> str:
    """The text of the README.md next to the weights."""
    values = {name: getattr(facts, name) for name in facts.__slots__}
    return _TEXT.format(
        **values,
        trained="UNet and text encoder" if settings.text_encoder else "UNet",
        caption_dropout=settings.caption_dropout,
        settings="\n".join(f"{k} = {_toml(v)}" for k, v in settings.outcome().items()),
    )


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)
