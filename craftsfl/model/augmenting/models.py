"""What draws for `craftsfl model augment`: a base, its adapter, and which of them draws a class."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from craftsfl.model.adapter_source import FoundAdapter, find_adapter
from craftsfl.model.augmenting.classes import OwnClass
from craftsfl.model.augmenting.done import AugmentRequest
from craftsfl.model.bases import FoundBase, find
from model.adapter_file import load_adapter
from model.generation.provenance import Drawing, software
from privacy.errors import ConfigError
from privacy.visible import visible


@dataclass(frozen=True)
class AugmentModels:
    """The base and, if there is one, the adapter; `drawing` is of both."""

    base: FoundBase
    adapter: FoundAdapter | None
    drawing: Drawing

    @property
    def of_base(self) -> Drawing:
        """What the base draws alone."""
        return replace(self.drawing, adapter=None, adapter_source=None, origin=None)


@contextmanager
def found_models(request: AugmentRequest) -> Iterator[AugmentModels]:
    """Find and read them; an adapter from MLflow exists as long as the block."""
    models = request.models
    with tempfile.TemporaryDirectory(prefix="craftsfl-") as folder:
        base = find(models.base)
        adapter = origin = None
        if models.adapter is not None:
            adapter = find_adapter(models.adapter, models.tracking_uri, Path(folder))
            origin = load_adapter(adapter.path).origin
        drawing = Drawing(
            base=base.digest,
            steps=request.steps,
            guidance=request.guidance,
            software=software(),
            adapter=adapter.digest if adapter is not None else None,
            adapter_source=adapter.source if adapter is not None else None,
            origin=origin,
        )
        yield AugmentModels(base, adapter, drawing)


def drawn_by_base(classes: Sequence[OwnClass], labels: Sequence[str]) -> frozenset[int]:
    """The numbers of the classes in --base-for; raises `ConfigError`."""
    names = [own.label for own in classes]
    for label in labels:
        if label not in names:
            near = get_close_matches(label, names, n=3)
            raise ConfigError(
                f"--base-for {visible(label, most=80)}: there is no such class.",
                f"Did you mean {visible(near[0], most=80)}?"
                if near
                else f"There are {visible(', '.join(names), most=200)}.",
            )
    found = frozenset(names.index(label) for label in labels)
    if len(found) == len(names):
        raise ConfigError(
            "--base-for names every class: nothing is left for the adapter.",
            "Leave --adapter and --base-for out, and the base draws them all.",
        )
    return found
