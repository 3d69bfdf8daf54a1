"""A base by its tokenizer: it can be read, and the text encoder knows every token it produces."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from transformers import CLIPTokenizer

from model.fitness.fault import AGAIN, BaseFault
from privacy.visible import visible

_CURE: Final = "Tokenizer and text encoder are of different models: get the folder again."
_VOCABULARY: Final = 49_408  # transformers' default for CLIP, if nothing else is said
_LENGTH: Final = 77


def of_tokenizer(folder: Path, text_encoder: Mapping[str, object]) -> Iterator[BaseFault]:
    """A tokenizer that cannot be read, or that produces more than its text encoder accepts."""
    if damaged := _damaged(folder / "tokenizer"):
        yield BaseFault(f"tokenizer/{damaged} is damaged", AGAIN)
        return
    kind: Any = CLIPTokenizer
    try:
        made = kind.from_pretrained(folder / "tokenizer", local_files_only=True)
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
        yield BaseFault(f"its tokenizer cannot be read ({type(error).__name__})", AGAIN)
        return
    known = text_encoder.get("vocab_size", _VOCABULARY)
    if len(made) > _whole(known):
        said = visible(repr(known), most=20)
        yield BaseFault(f"its tokenizer has {len(made)} tokens, its text encoder {said}", _CURE)
    places = text_encoder.get("max_position_embeddings", _LENGTH)
    if made.model_max_length > _whole(places):
        said = visible(repr(places), most=20)
        length = f"{made.model_max_length:g}"
        yield BaseFault(
            f"its captions are {length} tokens long, its text encoder reads {said}", _CURE
        )


def _damaged(folder: Path) -> str | None:
    """The first of the JSON files that is not JSON."""
    for path in sorted(folder.glob("*.json")):
        try:
            if isinstance(json.loads(path.read_text("utf-8")), dict):
                continue
        except (ValueError, RecursionError):
            pass
        return visible(path.name, most=80)
    return None


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0
