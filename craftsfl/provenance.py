"""`craftsfl model describe`: where a picture or an adapter comes from; the cancer types."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from model.generation.prompts import Words, morphology
from model.generation.provenance import UNKNOWN, read_provenance
from model.tissue.captions import CANCER_TYPES


def describe(path: Path) -> Iterator[tuple[str, str]]:
    """Rows (name, text) of a PNG that craftsfl drew, or of an adapter that it trained.

    Raises `ModelError` for anything else.
    """
    if path.suffix.lower() != ".safetensors":
        yield from read_provenance(path).rows()
        return
    from model.adapters import load_adapter
    from model.generation.adapter import file_digest

    saved = load_adapter(path)
    yield "Adapter", file_digest(path)
    yield "Layout", saved.layout.fingerprint().hex()
    yield "LoRA", f"rank {saved.adapter.rank}, alpha {saved.adapter.alpha:g}"
    yield "Parameters", str(saved.layout.parameters)
    origin = saved.origin
    yield "Privacy", UNKNOWN if origin is None else origin.privacy()
    if origin is not None:
        yield "Model", origin.base
        yield "Study", f"{origin.study} {origin.study_digest}"
        yield "Run", f"{origin.run}, {origin.rounds} rounds"


def as_json(paths: Sequence[Path]) -> str:
    """One object: for each file its rows. Raises `ModelError` at the first that says nothing."""
    said = {str(path): dict(describe(path)) for path in paths}
    return json.dumps(said, indent=1, ensure_ascii=False)


def show(paths: Sequence[Path], console: Console) -> None:
    """A table for each file. Raises `ModelError` at the first that says nothing."""
    for path in paths:
        rows = list(describe(path))
        table = Table(title=Text(str(path)), show_header=False, title_justify="left")
        table.add_column()
        table.add_column(overflow="fold")  # a digest is of use whole
        for name, text in rows:
            table.add_row(Text(name, "bold red" if name == "Synthetic" else "bold"), Text(text))
        console.print(table)


def show_types(words: Words, console: Console) -> None:
    """The 33 cancer types with the phrases that become prompts."""
    table = Table("code", "cancer type", "organ", "morphology", title="Cancer types (TCGA)")
    for code in CANCER_TYPES:
        kind = morphology(code, words)
        table.add_row(code, kind.name, kind.organ, "; ".join(kind.phrases))
    console.print(table)
