"""An image-caption folder: `metadata.csv` or `metadata.jsonl` with file_name and a caption."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from model.lab.stage_one.pictures import Unusable
from model.lab.stage_one.publicness import check_columns, check_place
from model.lab.stage_one.texts import Texts
from privacy.errors import ModelError

NAMES: Final = ("metadata.csv", "metadata.jsonl")
_FILE: Final = "file_name"


@dataclass(frozen=True, slots=True)
class PictureFolder:
    """The rows of the folder's metadata file, in its order."""

    root: Path
    files: Texts
    captions: Texts

    def __len__(self) -> int:
        return len(self.files)

    def picture(self, index: int) -> bytes:
        """The file that the row names; only regular files inside the folder."""
        try:
            path = (self.root / self.files[index]).resolve()
            if not path.is_relative_to(self.root):
                raise Unusable("leads outside the folder")
            if not path.is_file():  # a pipe would block forever
                raise Unusable("the file is missing")
            return path.read_bytes()
        except (ValueError, RuntimeError):
            raise Unusable("not a usable file name") from None

    def caption(self, index: int) -> str:
        """The row's caption."""
        text = self.captions[index]
        if not text:
            raise Unusable("the caption is missing")
        return text

    def name(self, index: int) -> str:
        """The row's file name, with the folder's."""
        return f"{self.root.name}/{self.files[index]}"

    def fingerprint(self) -> bytes:
        """Hash of file names and captions."""
        digest = hashlib.sha256(b"folder\0")
        for texts in (self.files, self.captions):
            digest.update(texts.ends.tobytes() + texts.content.tobytes())
        return digest.digest()


def open_picture_folder(folder: Path, caption: str, *, public: bool) -> PictureFolder:
    """Read the metadata. Raises `ModelError` that says what is missing."""
    check_place(folder, public=public)
    path = _metadata(folder)
    try:
        columns, records = _READERS[path.suffix](path.read_text("utf-8-sig"))
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}.", "Check its owner.") from None
    except UnicodeDecodeError:
        raise ModelError(f"{path} is not a text in UTF-8.", "Save it as UTF-8 again.") from None
    except (ValueError, csv.Error) as error:
        raise ModelError(f"{path} cannot be read: {error}.", "Save it as UTF-8 again.") from None
    check_columns(columns, folder, public=public)
    _check_needed(path, columns, caption)
    rows = [(str(row.get(_FILE) or ""), _text(row.get(caption))) for row in records]
    if not any(text for _, text in rows):
        raise ModelError(
            f"{path}: none of {len(rows)} rows has a caption.",
            f"Fill the column {caption}, a row for each picture.",
        )
    return PictureFolder(
        folder.resolve(), Texts.of(n for n, _ in rows), Texts.of(t for _, t in rows)
    )


def _text(value: object) -> str:
    return " ".join(value.split()) if isinstance(value, str) else ""


def _metadata(folder: Path) -> Path:
    if not folder.is_dir():
        raise ModelError(f"{folder} is not a folder.", "Check the path.")
    found = [folder / name for name in NAMES if (folder / name).is_file()]
    if len(found) != 1:
        raise ModelError(
            f"{folder} holds {' and '.join(path.name for path in found) or 'no metadata file'}.",
            f"Put one of {', '.join(NAMES)} there, with file_name and a caption for each picture.",
        )
    return found[0]


def _check_needed(path: Path, columns: list[str], caption: str) -> None:
    missing = [name for name in (_FILE, caption) if name not in columns]
    if missing:
        raise ModelError(
            f"{path} has no column {missing[0]}; it has {', '.join(columns) or 'none'}.",
            f"It needs {_FILE} and the caption's column, which stage-one.toml may name (caption).",
        )


def _csv(text: str) -> tuple[list[str], Iterable[dict[str, object]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    columns = list(reader.fieldnames or ())
    return columns, list(reader)


def _jsonl(text: str) -> tuple[list[str], Iterable[dict[str, object]]]:
    records = list(_objects(text))
    return list({name: None for record in records for name in record}), records


def _objects(text: str) -> Iterator[dict[str, object]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            raise ValueError(f"line {number} is not JSON") from None
        if not isinstance(record, dict):
            raise ValueError(f"line {number} is not a JSON object")
        yield record


_READERS: Final = {".csv": _csv, ".jsonl": _jsonl}
