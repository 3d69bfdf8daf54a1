"""`craftsfl model describe`: where a picture or an adapter comes from; the cancer types."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from model.adapter_file import load_adapter
from model.generation.provenance import UNKNOWN, read_provenance
from model.lab.drawing.prompts import Words, morphology
from model.lab.tissue.captions import CANCER_TYPES
from privacy.visible import visible

CLAIMED = "as the file claims"


@dataclass(frozen=True, slots=True)
class DescriptionRow:
    """A line about a file; `claimed`: the file says so itself, and nothing proves it."""

    name: str
    text: str  # safe to print: characters that act or hide are written out
    claimed: bool


def describe_file(path: Path) -> Iterator[DescriptionRow]:
    """What a PNG drawn by craftsfl, or an adapter trained by it, is and says about itself.

    Raises `ModelError` for anything else.
    """
    rows = _of_adapter(path) if path.suffix.lower() == ".safetensors" else _of_picture(path)
    for name, text, claimed in rows:
        yield DescriptionRow(name, visible(text), claimed)


def _of_picture(path: Path) -> Iterator[tuple[str, str, bool]]:
    for name, text in read_provenance(path).rows():
        yield name, text, True


def _of_adapter(path: Path) -> Iterator[tuple[str, str, bool]]:
    from model.generation.adapter import file_digest

    saved = load_adapter(path)
    yield "Adapter", file_digest(path), False
    yield "Layout", saved.layout.fingerprint().hex(), False
    targets = ", ".join(saved.adapter.targets)
    yield "LoRA", f"rank {saved.adapter.rank}, alpha {saved.adapter.alpha:g} on {targets}", False
    yield "Parameters", str(saved.layout.parameters), False
    origin = saved.origin
    yield "Privacy", UNKNOWN if origin is None else origin.privacy(), origin is not None
    if origin is not None:
        yield "Model", origin.base, True
        yield "Study", f"{origin.study} {origin.study_digest}", True
        yield "Run", f"{origin.run}, {origin.rounds} rounds", True


def descriptions_json(paths: Sequence[Path]) -> str:
    """One object in ASCII: for each file its rows, and the names of those that are only claimed.

    Raises `ModelError` at the first that says nothing.
    """
    said: dict[str, dict[str, str | list[str]]] = {}
    for path in paths:
        rows = list(describe_file(path))
        claims = [row.name for row in rows if row.claimed]
        said[visible(str(path))] = {row.name: row.text for row in rows} | {CLAIMED: claims}
    return json.dumps(said, indent=1)


def show_descriptions(paths: Sequence[Path], console: Console) -> None:
    """A table for each file. Raises `ModelError` at the first that says nothing."""
    for path in paths:
        rows = list(describe_file(path))
        name = visible(str(path))
        table = Table(title=Text(name), show_header=False, title_justify="left")
        table.add_column()
        table.add_column(overflow="fold")  # only a whole digest is useful
        for claimed in (False, True):
            some = [row for row in rows if row.claimed is claimed]
            if claimed and some:
                table.add_section()
                table.add_row("", Text(f"{CLAIMED}; nothing here proves it:", "italic"))
            for row in some:
                style = "bold red" if row.name == "Synthetic" else "bold"
                table.add_row(Text(row.name, style), Text(row.text))
        console.print(table)


def show_types(words: Words, console: Console) -> None:
    """The 33 cancer types with the phrases that become prompts."""
    table = Table("code", "cancer type", "organ", "morphology", title="Cancer types (TCGA)")
    for code in CANCER_TYPES:
        kind = morphology(code, words)
        table.add_row(code, kind.name, kind.organ, "; ".join(kind.phrases))
    console.print(table)
