"""A folder of synthetic pictures, ready for a training job, that says what it is.

    images/p0001-s7.png   the pictures, each with its provenance
    masks/…               the nuclei that they follow, if any (16-bit instances)
    metadata.csv          imagefolder: file_name, text, patient_id, organ, diagnosis, mask, …
    grid.png              some of them at a glance
    manifest.json         settings, models, privacy, and SHA-256 of each picture

Nothing is overwritten; an interrupted folder is continued where it stopped.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from model.base import Pipeline
from model.generation.adapter import file_digest
from model.generation.grid import Column, grid
from model.generation.provenance import (
    SYNTHETIC,
    Drawing,
    Provenance,
    read_provenance,
    write_png,
)
from model.lab.control.reading import Condition
from model.lab.drawing.shots import Shot, preview, stacked_conditions
from model.pictures import UnreadablePicture, open_picture
from model.sampling import SamplerSettings, sample_each
from privacy.errors import ModelError
from privacy.files import write_public

MANIFEST, METADATA, GRID = "manifest.json", "metadata.csv", "grid.png"
PATIENT = "synthetic-not-a-patient-{:04d}"
TILES_PER_PATIENT = 4  # readers that care about patients distrust tables in which each has one tile
_FORMAT = 1
_GRID_ROWS, _GRID_COLUMNS = 16, 6
_MOST_PIXELS = 8192 * 8192
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class DrawingOrder:
    """What a folder should hold; `settings` has the same steps and guidance as `drawing`."""

    shots: tuple[Shot, ...]
    drawing: Drawing
    settings: SamplerSettings


@dataclass(frozen=True, slots=True)
class Item:
    """A picture's place in the folder, and the invented patient that it is attributed to."""

    shot: Shot
    file: str
    mask: str
    patient: str


def items(shots: Sequence[Shot]) -> tuple[Item, ...]:
    """A file for each shot, and a patient for every four of one diagnosis, in their order."""
    prompts = {text: n for n, text in enumerate(dict.fromkeys(s.prompt.text for s in shots), 1)}
    followed = dict.fromkeys(id(s.condition) for s in shots if s.condition is not None)
    conditions = {which: number for number, which in enumerate(followed, 1)}
    patients: dict[tuple[str, int], str] = {}
    seen: Counter[str] = Counter()
    made = []
    for shot in shots:
        group = (shot.prompt.diagnosis, seen[shot.prompt.diagnosis] // TILES_PER_PATIENT)
        seen[shot.prompt.diagnosis] += 1
        patient = patients.setdefault(group, PATIENT.format(len(patients) + 1))
        which = f"-c{conditions[id(shot.condition)]:03d}" if shot.condition is not None else ""
        name = f"p{prompts[shot.prompt.text]:04d}{which}-s{shot.seed}.png"
        labelled = shot.condition is not None and shot.condition.labels is not None
        made.append(Item(shot, f"images/{name}", f"masks/{name}" if labelled else "", patient))
    return tuple(made)


def open_drawing(folder: Path, order: DrawingOrder) -> tuple[Item, ...]:
    """Make the folder, or continue one begun by the same order; returns what is still to be drawn.

    Raises `ModelError` if it holds anything else.
    """
    plan = items(order.shots)
    content = _manifest(order, plan)
    if (folder / MANIFEST).is_file():
        _check_same(folder, content)
    elif folder.is_dir() and any(folder.iterdir()):
        raise ModelError(
            f"{folder} holds other files.", "Name a new folder: nothing is overwritten."
        )
    else:
        (folder / "images").mkdir(parents=True, exist_ok=True)
        _write_json(folder / MANIFEST, content)
    return tuple(item for item in plan if not _is_there(folder, item, order))


def draw_folder(
    pipeline: Pipeline,
    order: DrawingOrder,
    folder: Path,
    *,
    strength: float = 1.0,
    on_progress: OnProgress | None = None,
) -> None:
    """Draw what `open_drawing` says is missing, then write table, masks, grid and manifest.

    The pipeline carries the adapter, and the control where there are conditions.
    on_progress(done, all) is called for each picture. Raises `ModelError`.
    """
    missing = open_drawing(folder, order)
    if not missing and _is_complete(folder):
        return
    done, every = len(order.shots) - len(missing), len(order.shots)
    shots = [item.shot for item in missing]
    drawn = sample_each(
        pipeline,
        [shot.prompt.text for shot in shots],
        [shot.seed for shot in shots],
        order.settings,
        stacked_conditions([shot.condition for shot in shots], strength),
    )
    for index, image in drawn:
        item = missing[index]
        write_png(image, folder / item.file, provenance(item.shot, order.drawing))
        done += 1
        if on_progress is not None:
            on_progress(done, every)
    finish_folder(folder, order)


def finish_folder(folder: Path, order: DrawingOrder) -> None:
    """Write the files that describe the pictures, all of which exist; may be repeated."""
    plan = items(order.shots)
    for item in plan:
        if item.mask and item.shot.condition is not None:
            _write_mask(folder / item.mask, item.shot.condition)
    _write_text(folder / METADATA, _table(plan))
    write_png(_overview(folder, plan), folder / GRID, provenance_of_all(order.shots, order.drawing))
    files = {item.file: file_digest(folder / item.file) for item in plan}
    _write_json(folder / MANIFEST, {**_manifest(order, plan), "complete": True, "sha256": files})


def provenance(shot: Shot, drawing: Drawing) -> Provenance:
    """Of one picture."""
    conditions = (shot.condition.digest,) if shot.condition is not None else ()
    return Provenance(drawing, (shot.prompt.text,), (shot.seed,), conditions)


def provenance_of_all(shots: Sequence[Shot], drawing: Drawing) -> Provenance:
    """Of a picture that shows many: each prompt, seed and condition once."""
    conditions = (shot.condition.digest for shot in shots if shot.condition is not None)
    return Provenance(
        drawing,
        tuple(dict.fromkeys(shot.prompt.text for shot in shots)),
        tuple(dict.fromkeys(shot.seed for shot in shots)),
        tuple(dict.fromkeys(conditions)),
    )


def _manifest(order: DrawingOrder, plan: Sequence[Item]) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "synthetic": SYNTHETIC,
        "complete": False,
        "privacy": order.drawing.privacy(),
        "drawing": order.drawing.values(),
        "size": order.settings.size,
        "images": [_listed(item) for item in plan],
    }


def _listed(item: Item) -> dict[str, str | int]:
    listed: dict[str, str | int] = {
        "file": item.file,
        "text": item.shot.prompt.text,
        "seed": item.shot.seed,
    }
    condition = item.shot.condition
    return listed if condition is None else {**listed, "condition": condition.digest}


def _check_same(folder: Path, content: Mapping[str, Any]) -> None:
    try:
        found = json.loads((folder / MANIFEST).read_text("utf-8"))
        different = [key for key in content if key != "complete" and found[key] != content[key]]
    except (OSError, ValueError, KeyError, TypeError):
        different = [MANIFEST]
    if different:
        raise ModelError(
            f"{folder} holds pictures of another order ({', '.join(different)} differ).",
            "Name a new folder: nothing is overwritten. To continue this one, repeat its command.",
        )


def _is_complete(folder: Path) -> bool:
    return bool(json.loads((folder / MANIFEST).read_text("utf-8"))["complete"])


def _is_there(folder: Path, item: Item, order: DrawingOrder) -> bool:
    path = folder / item.file
    if not path.exists():
        return False
    if read_provenance(path) != provenance(item.shot, order.drawing):
        raise ModelError(
            f"{path} is not the picture that belongs there.", "Move it away and try again."
        )
    return True


def _table(plan: Sequence[Item]) -> str:
    """metadata.csv; with invented patients, for readers that require patients."""
    masks = any(item.mask for item in plan)
    text = io.StringIO(newline="")
    columns = ["file_name", "text", "patient_id", "organ", "diagnosis", "seed", "synthetic"]
    table = csv.writer(text)
    table.writerow([*columns, "mask"] if masks else columns)
    for item in plan:
        prompt = item.shot.prompt
        row = [item.file, prompt.text, item.patient, prompt.organ, prompt.diagnosis]
        row += [str(item.shot.seed), SYNTHETIC]
        table.writerow([*row, item.mask] if masks else row)
    return text.getvalue()


def _write_mask(path: Path, condition: Condition) -> None:
    """The instances as a 16-bit PNG."""
    if condition.labels is not None:
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(condition.labels).save(path)


def _overview(folder: Path, plan: Sequence[Item]) -> Image.Image:
    """Rows: the first prompts and conditions; columns: their first pictures."""
    rows: dict[tuple[str, int], list[Item]] = {}
    for item in plan:
        rows.setdefault((item.shot.prompt.text, id(item.shot.condition)), []).append(item)
    some = [row[:_GRID_COLUMNS] for row in rows.values()][:_GRID_ROWS]
    columns = [
        Column(_label(column), [_open(folder / item.file) for item in column])
        for column in zip(*some, strict=True)
    ]
    firsts = [row[0].shot for row in some]
    followed = [preview(shot.condition) for shot in firsts if shot.condition is not None]
    if followed:
        columns.insert(0, Column("to follow", followed))
    return grid(columns, [shot.prompt.text for shot in firsts])


def _label(column: Sequence[Item]) -> str:
    seeds = [str(item.shot.seed) for item in column]
    return f"seed {seeds[0]}" if len(set(seeds)) == 1 else f"seeds {seeds[0]} …"


def _open(path: Path) -> Image.Image:
    """A picture from this folder's own plan, which somebody may have replaced."""
    try:
        with open_picture(path, most=_MOST_PIXELS, formats=("PNG",)) as image:
            return image.convert("RGB")
    except UnreadablePicture as error:
        raise ModelError(
            f"{path} is not a picture of this folder: {error}.", "Delete it, and it is drawn again."
        ) from None


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    _write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _write_text(path: Path, text: str) -> None:
    write_public(path, text.encode("utf-8"))
