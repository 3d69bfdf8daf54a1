"""What is evaluated: a model that draws now, or pictures drawn before."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from craftsfl.model.adapter_source import find_adapter
from craftsfl.model.bases import find
from model.base import load_base
from model.devices import pick_device
from model.generation.adapter import check_adapter
from model.generation.provenance import read_provenance
from model.lab.drawing.prompts import Words, read_prompts, type_prompts
from model.lab.evaluation.subject import Subject
from model.origin import Origin
from model.sampling import DEFAULT_GUIDANCE, DEFAULT_STEPS
from privacy.errors import ModelError
from privacy.study.manifest import Adapter

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_CLAIMED: Final = "Epsilon and study are as the adapter's file claims; nothing here proves it."
_DRAWN: Final = (
    "Base, adapter and epsilon are as the generated pictures claim; nothing here proves it."
)


@dataclass(frozen=True, slots=True)
class Model:
    """The options that name a model, as `craftsfl model sample` has them."""

    base: str | None = None
    adapter: str | None = None
    tracking_uri: str | None = None  # where adapter is models:/NAME/3
    steps: int = DEFAULT_STEPS
    guidance: float = DEFAULT_GUIDANCE


@dataclass(frozen=True, slots=True)
class ImageSource:
    """Where generated images come from; all of it public. None: not known.

    claims: which of these a file only claims, and nothing proves; "" if none. encoders: digests of
    those that the adapter's file says it was trained towards.
    """

    base: str | None = None
    adapter: str | None = None
    epsilon: float | None = None
    delta: float | None = None
    study: str | None = None  # its digest, 64 hex digits
    lora: Adapter | None = None  # of an adapter that was read here
    claims: str = ""
    encoders: tuple[str, ...] = ()

    def title(self) -> str:
        """For tables and pages."""
        names = [name[:19] + "…" for name in (self.base, self.adapter) if name]
        return "Evaluation of " + " with adapter ".join(names) if names else "Evaluation"


def open_subject(model: Model, seed: int, scratch: Path) -> tuple[Subject, ImageSource, bool]:
    """The model, loaded; its source; whether the base is the embedded one.

    An adapter from MLflow is put into `scratch`, which must last as long as the subject.
    Raises `CraftsflError` if base or adapter are not available, or do not fit.
    """
    base = find(model.base)
    adapter = None
    if model.adapter is not None:
        adapter = find_adapter(model.adapter, model.tracking_uri, scratch)
    pipeline = load_base(base.folder, pick_device("auto"))
    subject = Subject(
        pipeline,
        adapter.path if adapter else None,
        base.digest,
        model.steps,
        model.guidance,
        seed,
    )
    # Refused here, not after the base has drawn all its pictures.
    source = ImageSource(base.digest)
    if adapter is not None:
        saved = check_adapter(pipeline, adapter.path, base.digest)
        source = _source(base.digest, adapter.digest, saved.origin)
        source = replace(source, lora=saved.adapter, claims=_CLAIMED if saved.origin else "")
    return subject, source, base.embedded


def drawn_source(picture: Path) -> ImageSource:
    """What a picture says about itself; nothing if it is by other software, or without digests."""
    try:
        drawing = read_provenance(picture).drawing
    except ModelError:
        return ImageSource()
    if not all(_DIGEST.fullmatch(text) for text in (drawing.base, drawing.adapter) if text):
        return ImageSource()
    return replace(_source(drawing.base, drawing.adapter, drawing.origin), claims=_DRAWN)


def _source(base: str, adapter: str | None, origin: Origin | None) -> ImageSource:
    if origin is None:
        return ImageSource(base, adapter)
    figures = (origin.epsilon, origin.delta, origin.study_digest)
    return ImageSource(base, adapter, *figures, encoders=origin.encoders or ())


def public_prompts(path: Path | None, *, embedded: bool) -> tuple[str, ...]:
    """For the drift: those in the file, or one for each of the 33 cancer types."""
    if path is not None:
        return tuple(prompt.text for prompt in read_prompts(path))
    words: Words = "tissue" if embedded else "clinical"
    first = {prompt.diagnosis: prompt.text for prompt in reversed(type_prompts(["all"], words))}
    return tuple(first.values())
