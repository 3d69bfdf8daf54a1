"""The prompts of an atlas: every phrase of every cancer type, and what each phrase means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from model.lab.drawing.prompts import Words, morphology, type_prompts
from model.lab.pretraining.contrastive.wording import WORDINGS
from model.lab.tissue.captions import ALL_WORDS, CANCER_TYPES, PHRASES, CaptionWords

_READ = {"tiny": "reference", "tiny-evaluator": "evaluator"}  # the embedded encoders' recipes


@dataclass(frozen=True, slots=True)
class AtlasEntry:
    """One prompt: a cancer type, and a phrase for what its tiles show.

    meaning: equal for phrases that say the same. Of tissue words it is the morphology, of clinical
    words the phrase itself.
    """

    code: str
    name: str
    organ: str
    phrase: str
    meaning: str
    prompt: str

    def synonyms(self, words: CaptionWords) -> tuple[str, ...]:
        """The phrases of this meaning in these words."""
        known = PHRASES.get(self.meaning)
        return (self.phrase,) if known is None else tuple(known[place] for place in words.phrases)


def atlas_entries(words: Words) -> tuple[AtlasEntry, ...]:
    """Of all 33 types, in the order of their codes and in the words of a kind of base."""
    meaning = {phrase: name for name, pair in PHRASES.items() for phrase in pair}
    known = meaning if words == "tissue" else {}
    return tuple(
        AtlasEntry(code, kind.name, kind.organ, phrase, known.get(phrase, phrase), prompt.text)
        for code, kind in ((code, morphology(code, words)) for code in CANCER_TYPES)
        for phrase, prompt in zip(kind.phrases, type_prompts([code], words), strict=True)
    )


def captions_by_meaning(
    entries: Sequence[AtlasEntry], words: CaptionWords = ALL_WORDS
) -> dict[str, tuple[str, ...]]:
    """The ways to say each meaning: of every type that shows it, in every synonym and template.

    `words`: those that the judge knows. Asked in others, it would be judged and not the pictures.
    """
    said: dict[str, dict[str, None]] = {}
    for entry in entries:
        texts = said.setdefault(entry.meaning, {})
        for phrase in entry.synonyms(words):
            for template in words.templates:
                texts[template.format(name=entry.name, organ=entry.organ, what=phrase)] = None
    return {meaning: tuple(texts) for meaning, texts in said.items()}


def words_read_by(judge: str) -> CaptionWords:
    """The words that an encoder learned, by its source; all where nobody knows."""
    recipe = _READ.get(judge)
    return ALL_WORDS if recipe is None else WORDINGS[recipe].slides
