"""In which words each tiny encoder learned its contents: no caption of one is one of the other's.

The evaluator judges what was trained towards the reference. Had both read the same captions, they
might share what those suggest. Neither learns the sentence that the domain's patients come
with (`domain_caption`), so its words are known to both and the sentence to none.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from model.lab.pretraining.corpus import draw_caption
from model.lab.tissue.captions import TEMPLATES, CaptionWords
from model.lab.tissue.domain import RareType, Stain


@dataclass(frozen=True)
class Wording:
    """How an encoder's captions are put: of stage one's contents, and of the domain's."""

    slides: CaptionWords
    domain: tuple[str, ...]

    def of_slide(self, label: int, rng: np.random.Generator) -> str:
        """A caption of MORPHOLOGIES[label] in H&E."""
        return draw_caption(label, rng, self.slides)

    def of_domain(self, rare: RareType, stain: Stain, rng: np.random.Generator) -> str:
        """A caption of a rare type in a stain; it names no morphology."""
        template = self.domain[int(rng.integers(len(self.domain)))]
        return template.format(name=rare.name, organ=rare.organ, stain=stain.words)


WORDINGS = MappingProxyType(
    {
        "reference": Wording(
            CaptionWords(TEMPLATES[:2], phrases=(0,)),
            (
                "{stain} of the {organ}: {name}.",
                "{name} of the {organ} in {stain}.",
                "Histology of {organ}, {stain}; {name}.",
            ),
        ),
        "evaluator": Wording(
            CaptionWords(TEMPLATES[2:], phrases=(1,)),
            (
                "{organ} with {name}, {stain}.",
                "Section after {stain}, {name}, {organ}.",
                "{stain}; {organ}; {name}.",
            ),
        ),
    }
)
