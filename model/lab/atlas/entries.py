"""The prompts of an atlas: every phrase of every cancer type, and what each phrase means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from model.lab.drawing.prompts import Words, morphology, type_prompts
from model.lab.tissue.captions import CANCER_TYPES, PHRASES, TEMPLATES


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

    @property
    def synonyms(self) -> tuple[str, ...]:
        """All phrases of this meaning."""
        return PHRASES.get(self.meaning, (self.phrase,))


def atlas_entries(words: Words) -> tuple[AtlasEntry, ...]:
    """Of all 33 types, in the order of their codes and in the words of a kind of base."""
    meaning = {phrase: name for name, pair in PHRASES.items() for phrase in pair}
    known = meaning if words == "tissue" else {}
    return tuple(
        AtlasEntry(code, kind.name, kind.organ, phrase, known.get(phrase, phrase), prompt.text)
        for code, kind in ((code, morphology(code, words)) for code in CANCER_TYPES)
        for phrase, prompt in zip(kind.phrases, type_prompts([code], words), strict=True)
    )


def captions_by_meaning(entries: Sequence[AtlasEntry]) -> dict[str, tuple[str, ...]]:
    """All ways to say each meaning: of every type that shows it, in every synonym and template.

    A judge that knows some of these sentences and not others is asked for their mean.
    """
    said: dict[str, dict[str, None]] = {}
    for entry in entries:
        texts = said.setdefault(entry.meaning, {})
        for phrase in entry.synonyms:
            for template in TEMPLATES:
                texts[template.format(name=entry.name, organ=entry.organ, what=phrase)] = None
    return {meaning: tuple(texts) for meaning, texts in said.items()}
