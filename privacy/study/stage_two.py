"""The terms of the loss "stage-two": their public constants, and the passes that each costs.

All are constants of the study, set on public data: weights that followed private losses would
couple patients, and reveal something about them. docs/stage-two.md has the formulae.
"""

# Why: docs/adr/0049-correlation-of-effects.md

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, ClassVar, Final

from pydantic import Field, model_validator

from privacy.config import Positive, Strict

Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Caption = Annotated[str, Field(min_length=1, max_length=1000)]
Hinge = Annotated[float, Field(ge=-1, le=1)]

MIN_TEMPERATURE: Final = 1e-3  # of text grounding


class Encoder(Strict):
    """A frozen encoder: public like the base, found by its source and pinned by digest."""

    source: str = Field(min_length=1)  # "tiny", a local folder, or a hub id
    digest: Digest


class CaptionEffects(Strict):
    """Correlation of effects: lambda r relu(m - rho), what a caption does against a phrase's doing.

    The effect of a text is what it changes in a prediction. rho compares that of a row's own
    caption, under the adapter, with that of one of `phrases`, under the base. r says how alike
    caption and phrase are to the text tower of `encoder`, which looks at no picture.
    """

    weight: Positive  # lambda
    margin: Hinge  # m
    # Knows texts. It reads captions, so that sites have to allow it as one that looks at tiles.
    encoder: Encoder
    # Public, and known to the base: captions of stage one. Their mean is taken off all embeddings.
    phrases: tuple[Caption, ...] = Field(min_length=2)
    nearest: Annotated[int, Field(ge=1, le=8)] = 3  # among so many the phrase turns with t
    # A phrase whose r is not above it says nothing about a caption, and the term is off there.
    least: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="after")
    def _are_enough(self) -> CaptionEffects:
        if len(set(self.phrases)) != len(self.phrases):
            raise ValueError("a phrase is listed twice")
        if self.nearest > len(self.phrases):
            raise ValueError(f"nearest is {self.nearest} but only {len(self.phrases)} are listed")
        return self


class Structure(Strict):
    """Structure of places: lambda w(t) relu(m - rho), features against a frozen image encoder's.

    It compares which places of one image resemble each other. That is no obedience to words.
    """

    weight: Positive  # lambda
    margin: Hinge  # m, from public data: craftsfl model margin
    block: str = Field(min_length=1)  # of the UNet, e.g. "up_blocks.1"
    encoder: Encoder


class DriftSuppressor(Strict):
    """beta |eps_theta - eps_base|^2: a price on what the adapter changes.

    With `captions`, both are taken under a public caption instead of the row's own. Then what is to
    be learned about a row's own caption is free, at the price of one more pass with gradient.
    """

    weight: Positive  # beta
    # Public: written before anybody saw a patient's caption. One that is listed twice counts twice.
    captions: tuple[Caption, ...] = ()


class Grounding(Strict):
    """Text grounding: -log softmax of a row's own caption against `each` of public `captions`."""

    weight: Positive
    # tau, in units of the denoising loss; at least a hundredth of typical losses. The gradient
    # grows with 1 / tau, and its rounding errors grow with it.
    temperature: Annotated[float, Field(ge=MIN_TEMPERATURE)]
    captions: tuple[Caption, ...] = Field(min_length=1)  # public, as above
    each: Annotated[int, Field(ge=1, le=8)] = 1  # K: additional forward passes

    @model_validator(mode="after")
    def _are_enough(self) -> Grounding:
        if len(set(self.captions)) != len(self.captions):
            raise ValueError("a public caption is listed twice")
        if self.each > len(self.captions):
            raise ValueError(f"each is {self.each} but only {len(self.captions)} are listed")
        return self


@dataclass(frozen=True, slots=True)
class Passes:
    """How often a loss sends every row of a batch through the UNet. Always all rows.

    Captions, timesteps and likeness change nothing about that: a pass of the rows that need it
    would have a shape that depends on who was drawn.
    """

    with_gradient: int
    without: int


class StageTwo(Strict):
    """The terms of the loss "stage-two" in addition to denoising; a missing table is off."""

    RENAMED: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "correlation": "is called structure now, which is what it matches: rename the table at "
            "every site, for the study's digest changes. What captions do is another term, "
            "effects: docs/stage-two.md"
        }
    )

    effects: CaptionEffects | None = None
    structure: Structure | None = None
    drift: DriftSuppressor | None = None
    grounding: Grounding | None = None

    @property
    def encoder_digests(self) -> frozenset[str]:
        """The frozen encoders that take part in training."""
        users = (self.effects, self.structure)
        return frozenset(term.encoder.digest for term in users if term is not None)

    @property
    def passes(self) -> Passes:
        """What a batch costs, denoising's own pass included."""
        drift = self.drift is not None
        public = self.drift is not None and bool(self.drift.captions)
        contrasts = 0 if self.grounding is None else self.grounding.each
        effects = 0 if self.effects is None else 2
        return Passes(with_gradient=1 + public + contrasts, without=drift + effects)
