"""`reader-study score`: opens the key, reads the answers, and says what they show."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from craftsfl.model.readers.kit import KEY_FORMAT, page_mark
from craftsfl.model.readers.subject import JudgedModel, read_model
from model.lab.readers.items import REAL, SYNTHETIC, ReadingItem, ReadingTask
from model.lab.readers.scoring import Given, ReadersFigure, score_readers
from privacy.errors import ConfigError, DataError
from privacy.strict_json import read_json
from privacy.visible import visible

_READER: Final = re.compile(r"reader-[0-9]{2}")
_LARGEST: Final = 50_000_000  # bytes
_KEY_CURE: Final = "Give the key.json that craftsfl model reader-study make wrote."
_ANSWERS_CURE: Final = "Give the files that the readers' pages save: reader-NN-answers.json."


@dataclass(frozen=True, slots=True)
class StudyKey:
    """An opened key; `study` is the SHA-256 of its file, hex."""

    study: str
    readers: tuple[str, ...]
    items: tuple[ReadingItem, ...] = field(repr=False)
    model: JudgedModel | None
    salt: bytes | None = field(repr=False)  # None: pages of an older craftsfl have no mark


@dataclass(frozen=True, slots=True)
class ScoredStudy:
    """The figures, and how many of its `questions` each reader left out."""

    study: str
    model: JudgedModel | None
    questions: int
    figures: tuple[ReadersFigure, ...]
    missing: dict[str, int]


def score_files(key_file: Path, files: Sequence[Path]) -> ScoredStudy:
    """Score the answers; raises `DataError` for a file that is not of this study, `ConfigError`
    for a key that is none."""
    key = read_key(key_file)
    answers: dict[str, Given] = {}
    for path in files:
        reader, given = _read_answers(path, key)
        if reader in answers:
            raise DataError(f"{path} is a second file of {reader}.", "Give one for each reader.")
        answers[reader] = given
    if not answers:
        raise DataError("No answers were given.", _ANSWERS_CURE)
    answers = dict(sorted(answers.items()))
    missing = {reader: len(key.items) - len(given) for reader, given in answers.items()}
    figures = tuple(score_readers(key.items, answers))
    return ScoredStudy(key.study, key.model, len(key.items), figures, missing)


def read_key(path: Path) -> StudyKey:
    """Open the key; raises `ConfigError`."""
    data = _bytes(path, _KEY_CURE)
    try:
        values: Any = read_json(data.decode())
        if "answers" in values:
            raise ConfigError(f"{path} is what a reader answered, not the key.", _KEY_CURE)
        if values["format"] not in (1, KEY_FORMAT):
            raise ConfigError(f"{path} was written by a newer craftsfl.", "Install that version.")
        items = tuple(_item(item) for item in values["items"])
        readers = tuple(map(_reader, values["readers"]))
        if not items or len({item.id for item in items}) != len(items):
            raise ValueError
        model = read_model(values.get("model"))
        salt = bytes.fromhex(values["salt"]) if values["format"] == KEY_FORMAT else None
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{path} is not the key of a readers' study.", _KEY_CURE) from None
    return StudyKey(hashlib.sha256(data).hexdigest(), readers, items, model, salt)


def _item(values: dict[str, Any]) -> ReadingItem:
    """Raises ValueError, KeyError or TypeError for what no kit has."""
    item = ReadingItem(
        id=str(values["id"]),
        task=ReadingTask(values["task"]),
        pictures=tuple(values["pictures"]),
        captions=tuple(values["captions"]),
        origin=str(values["origin"]),
        truth=str(values["truth"]),
    )
    truths = ("",) if item.task is ReadingTask.QUALITY else item.task.answers
    if item.truth not in truths or item.origin not in (REAL, SYNTHETIC):
        raise ValueError
    return item


def _reader(name: str) -> str:
    if not _READER.fullmatch(name):
        raise ValueError
    return name


def _read_answers(path: Path, key: StudyKey) -> tuple[str, Given]:
    """The reader and what they answered."""
    data = _bytes(path, _ANSWERS_CURE)
    try:
        values: Any = read_json(data.decode())
        if "items" in values:
            raise ConfigError(f"{path} is the key of a readers' study.", _ANSWERS_CURE)
        if values["format"] != 1:
            raise ConfigError(f"{path} was written by a newer craftsfl.", "Install that version.")
        study, reader, given = values["study"], values["reader"], dict(values["answers"])
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{path} holds no answers of a reader.", _ANSWERS_CURE) from None
    if study != key.study:
        raise DataError(
            f"{path} is of another study, or the key was changed since it was sealed.",
            f"This key's study is {key.study[:16]}…, the file's {visible(str(study)[:16])}….",
        )
    if reader not in key.readers:
        raise DataError(f"{path} is of no reader of this study.", _ANSWERS_CURE)
    if key.salt is not None and values.get("mark") != page_mark(key.salt, reader):
        raise DataError(
            f"{path} was not saved by the page of {reader}: it was edited, or is another reader's "
            "under that name.",
            "Ask the reader for the file as the page saved it.",
        )
    tasks = {item.id: item.task for item in key.items}
    wrong = [id for id, text in given.items() if id not in tasks or text not in tasks[id].answers]
    if wrong:
        raise DataError(
            f"{path} holds answers that the page cannot give ({len(wrong)}): it was edited.",
            "Ask the reader for the file as the page saved it.",
        )
    if not given:
        raise DataError(f"{path} is empty: {reader} has answered nothing.", "Leave it out.")
    return reader, given


def _bytes(path: Path, cure: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.", cure) from None


def as_score_json(scored: ScoredStudy) -> str:
    """What `--json` prints."""
    rows = [{k: _finite(v) for k, v in asdict(figure).items()} for figure in scored.figures]
    model = None if scored.model is None else asdict(scored.model)
    values = {
        "study": scored.study,
        "model": model,
        "missing": scored.missing,
        "figures": rows,
    }
    return json.dumps(values, indent=2, allow_nan=False)


def as_score_table(scored: ScoredStudy) -> Table:
    """The figures for people."""
    table = Table("question", "figure", "reader", "value", "95 % interval", "judgements")
    for item in scored.figures:
        value = "not defined" if item.value is None else f"{item.value:.3f}"
        ends = "" if item.low is None or item.high is None else f"{item.low:.3f} to {item.high:.3f}"
        table.add_row(item.task, item.figure, item.reader, value, ends, str(item.count))
    return table


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value
