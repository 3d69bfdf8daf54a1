"""What is promised to whom, for each file that `craftsfl model augment` writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from model.generation.provenance import Drawing
from privacy.visible import visible

ClassifierKind = Literal["real", "real-and-synthetic", "synthetic"]

_NONE = (
    "NO PRIVACY PROMISE: trained on patients' tiles without noise. Keep it as you keep the tiles; "
    "the adapter's epsilon does not cover it."
)
_FIGURES = (
    "The figures, and the judge's examination, are measured on patients' tiles and carry no "
    "promise. Whoever publishes a classifier only if its figures please, or chooses by them which "
    "classes the base draws, has let them decide."
)


@dataclass(frozen=True, slots=True)
class AugmentPromise:
    """About one classifier; epsilon and delta: the adapter's, where it inherits them."""

    kind: ClassifierKind
    words: str
    inherits: bool
    epsilon: float | None = None
    delta: float | None = None


def promise_of(
    kind: ClassifierKind, drawing: Drawing, of_base: Sequence[str] = ()
) -> AugmentPromise:
    """What holds for a classifier of this kind, if its synthetic pictures were drawn like that.

    `of_base`: classes whose pictures the base drew alone, beside those of the adapter.
    """
    if kind != "synthetic":
        return AugmentPromise(kind, _NONE, inherits=False)
    if drawing.adapter is None:
        return AugmentPromise(
            kind,
            "Trained on pictures of the base alone, which no study's patients taught anything. Of "
            "your own patients it holds the names of the classes.",
            inherits=False,
        )
    origin = drawing.origin
    if origin is None or origin.epsilon is None:
        words = "none" if origin is not None else "unknown: its file does not say"
        return AugmentPromise(
            kind,
            f"Trained on synthetic pictures alone, so it inherits the adapter's promise, which is "
            f"{words}.{_beside(of_base)}",
            inherits=True,
        )
    return AugmentPromise(
        kind,
        "Trained on synthetic pictures alone: it inherits the adapter's promise, "
        f"{origin.privacy()}, as post-processing, however many pictures are drawn. That is the "
        "promise to the patients who trained the adapter; of your own it holds the names of the "
        f"classes, which must be no secret.{_beside(of_base)}",
        inherits=True,
        epsilon=origin.epsilon,
        delta=origin.delta,
    )


def _beside(of_base: Sequence[str]) -> str:
    if not of_base:
        return ""
    names = visible(", ".join(of_base), most=200)
    return f" Pictures of {names} are by the base alone: no study's patient is in them."


def about_figures() -> str:
    """What holds for everything that was measured."""
    return _FIGURES
