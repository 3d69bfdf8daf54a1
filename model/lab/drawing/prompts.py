"""What to draw: texts from the command line, from a file, or for a cancer type's morphology.

Imports no torch, so a wrong name is reported at once.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from model.lab.drawing.morphology import CLINICAL, Morphology
from model.lab.tissue.captions import CANCER_TYPES, PHRASES
from privacy.errors import ModelError

# "tissue": the words of the embedded tiny base; "clinical": a pathologist's, for real bases.
Words: TypeAlias = Literal["tissue", "clinical"]
EVERY = "all"
_SPELLINGS = (("oesoph", "esoph"), ("aemia", "emia"), ("tumour", "tumor"), ("phaeo", "pheo"))


@dataclass(frozen=True, slots=True)
class Prompt:
    """A text, and for a data set's table the organ and diagnosis that it is about."""

    text: str
    organ: str = ""
    diagnosis: str = ""


def read_prompts(path: Path) -> tuple[Prompt, ...]:
    """One prompt a line; empty lines do not count. Raises `ModelError` for an empty file."""
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}.", "Check the path.") from None
    except UnicodeDecodeError:
        raise ModelError(f"{path} is not UTF-8.", "Save it with the encoding UTF-8.") from None
    found = plain_prompts(line.strip() for line in lines if line.strip())
    if not found:
        raise ModelError(f"{path} holds no prompt.", "Write one prompt a line.")
    return found


def plain_prompts(texts: Iterable[str]) -> tuple[Prompt, ...]:
    """Each text once: equal prompts and seeds make equal pictures. Raises for an empty one."""
    found = tuple(dict.fromkeys(texts))
    if not all(text.strip() for text in found):
        raise ModelError("A prompt is empty.", "Say what to draw.")
    return tuple(map(Prompt, found))


def type_prompts(names: Sequence[str], words: Words) -> tuple[Prompt, ...]:
    """A prompt for each morphology phrase of each cancer type; "all" names all 33.

    Texts are "name, organ: phrase.", which is how captions of the tiny base read. Raises
    `ModelError` for an unknown type, with the nearest ones.
    """
    every = any(name.casefold() == EVERY for name in names)
    codes = list(CANCER_TYPES) if every else [find_type(name) for name in names]
    return tuple(
        Prompt(f"{kind.name}, {kind.organ}: {phrase}.", kind.organ, kind.name)
        for kind in (morphology(code, words) for code in dict.fromkeys(codes))
        for phrase in kind.phrases
    )


def morphology(code: str, words: Words) -> Morphology:
    """Name, organ and phrases of a cancer type in the words of a kind of base."""
    if words == "clinical":
        return CLINICAL[code]
    kind = CANCER_TYPES[code]
    first, second = zip(*(PHRASES[m] for m in kind.morphologies), strict=True)
    return Morphology(kind.name, kind.organ, first if len(first) > 2 else first + second)


def find_type(name: str) -> str:
    """The TCGA code that `name` means: a code or a full name, in any case and spelling.

    Raises `ModelError` with the nearest codes and names.
    """
    known = _names()
    wanted = _folded(name)
    if wanted in known:
        return known[wanted]
    near = [text for text in known if len(wanted) > 3 and wanted in text]
    near += difflib.get_close_matches(wanted, known, n=5, cutoff=0.5)
    codes = dict.fromkeys(known[text] for text in near)
    offers = [f"{code} ({CANCER_TYPES[code].name})" for code in codes][:4]
    raise ModelError(
        f"Unknown cancer type {name!r}.",
        (f"Did you mean {' or '.join(offers)}? " if offers else "")
        + "`craftsfl model sample --list-types` shows all.",
    )


def _names() -> dict[str, str]:
    """Folded code or name -> code."""
    names = {_folded(code): code for code in CANCER_TYPES}
    for code, kind in CANCER_TYPES.items():
        names[_folded(kind.name)] = names[_folded(CLINICAL[code].name)] = code
    return names


def _folded(name: str) -> str:
    text = " ".join(name.casefold().replace("-", " ").split())
    for british, american in _SPELLINGS:
        text = text.replace(british, american)
    return text
