"""Whose pictures readers judge: what the pictures themselves say, sealed with the key.

Pictures only claim it. Whoever makes the kit has drawn them, and signs for the result.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from model.generation.provenance import Drawing, read_provenance
from privacy.errors import ModelError

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_STUDY: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class JudgedModel:
    """`base`, `adapter`: "sha256:…" of what drew; `study`: the digest of the adapter's study, hex.

    base_before: whether all pictures from before training are by that base alone.
    """

    base: str
    adapter: str
    study: str
    base_before: bool


def judged_model(synthetic: Sequence[Path], before: Sequence[Path]) -> JudgedModel | None:
    """The one adapter, of a study, that drew all of `synthetic`; None if there is no such one."""
    drawings = [_drawing(path) for path in synthetic]
    first = drawings[0] if drawings else None
    if first is None or first.adapter is None or first.origin is None:
        return None
    if any(other is None or _who(other) != _who(first) for other in drawings):
        return None
    alone = [_drawing(path) for path in before]
    found = JudgedModel(
        first.base,
        first.adapter,
        first.origin.study_digest,
        bool(alone) and all(d is not None and _who(d) == (first.base, None, None) for d in alone),
    )
    return found if _is_whole(found) else None


def read_model(values: object) -> JudgedModel | None:
    """As it stands in a key; raises ValueError, KeyError or TypeError for anything else."""
    if values is None:
        return None
    if not isinstance(values, Mapping):
        raise TypeError
    found = JudgedModel(**values)
    if not _is_whole(found):
        raise ValueError
    return found


def _drawing(path: Path) -> Drawing | None:
    try:
        return read_provenance(path).drawing
    except ModelError:
        return None


def _who(drawing: Drawing) -> tuple[str, str | None, str | None]:
    study = None if drawing.origin is None else drawing.origin.study_digest
    return drawing.base, drawing.adapter, study


def _is_whole(model: JudgedModel) -> bool:
    digests = all(_DIGEST.fullmatch(text) for text in (model.base, model.adapter))
    return digests and bool(_STUDY.fullmatch(model.study)) and type(model.base_before) is bool
