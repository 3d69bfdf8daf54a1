"""A user's table becomes classes, or is refused by name."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from craftsfl.model.augmenting import classes as own_classes
from craftsfl.model.augmenting.classes import LabelledTiles, read_classes
from craftsfl.model.augmenting.leaks import leak_notes
from privacy.errors import CraftsflError, DataError

COLUMNS = ("file_name", "text", "patient_id", "slide_id", "organ", "diagnosis")


def folder(tmp_path: Path, labels: list[str], *, patients: int = 3, column: str = "") -> Path:
    """Two tiles for each patient of each label."""
    names = [*COLUMNS, *([column] if column else [])]
    with (tmp_path / "metadata.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(names)
        number = 0
        for label in labels:
            for patient in range(patients):
                for slide in range(2):
                    number += 1
                    pixels = np.full((16, 16, 3), number, np.uint8)
                    Image.fromarray(pixels).save(tmp_path / f"{number}.png")
                    who = f"{labels.index(label)}-{patient}"
                    row = [f"{number}.png", "tissue", who, f"{who}-{slide}", "colon"]
                    table.writerow([*row, "", label] if column else [*row, label])
    return tmp_path


def read(place: Path, column: str = "diagnosis", captions: Path | None = None) -> LabelledTiles:
    return read_classes(place, column, captions, 2, ids_confirmed=True)


def test_classes_have_captions_counts_and_patients(tmp_path: Path) -> None:
    found = read(folder(tmp_path, ["benign", "malignant", ""]))
    assert [own.label for own in found.classes] == ["benign", "malignant"]
    assert found.classes[0].captions == ("benign, colon.",)
    assert (found.classes[1].tiles, found.classes[1].patients) == (6, 3)
    assert (len(found.tiles), found.unlabelled) == (12, 6)
    assert found.numbers.tolist() == [0] * 6 + [1] * 6


def test_a_label_is_never_a_path_and_its_sign_may_be_a_finding(tmp_path: Path) -> None:
    found = read(folder(tmp_path, ["+", "3+", "../../etc/passwd"]))
    assert [own.label for own in found.classes] == ["+", "../../etc/passwd", "3+"]


def test_who_has_tiles_of_several_classes_is_counted(tmp_path: Path) -> None:
    place = folder(tmp_path, ["a", "b"])
    table = (place / "metadata.csv").read_text().replace(",1-0,", ",0-0,")
    (place / "metadata.csv").write_text(table)
    assert read(place).mixed == 1


def test_copies_under_two_ids_are_named_by_row(tmp_path: Path) -> None:
    own = read(folder(tmp_path, ["a", "b"]))
    noise = np.random.default_rng(1)
    images = noise.integers(0, 255, (12, 64, 64, 3)).astype(np.uint8)
    assert not list(leak_notes(own, images))
    images[7] = images[0]
    images[1] = images[0]  # of the same patient
    (words,) = leak_notes(own, images)
    assert "LEAK: 2 pairs" in words
    assert f"rows {own.tiles[0].row} and {own.tiles[7].row}" in words
    images[:] = 250  # of glass: nothing to compare
    assert not list(leak_notes(own, images))


def test_any_column_may_hold_the_label(tmp_path: Path) -> None:
    found = read(folder(tmp_path, ["1", "2"], column="grade"), "grade")
    assert [own.label for own in found.classes] == ["1", "2"]


def test_captions_may_stand_in_a_file(tmp_path: Path) -> None:
    said = tmp_path / "captions.csv"
    said.write_text("label,text\nbenign,Harmless.\nbenign,Quiet tissue.\nmalignant,A tumour.\n")
    found = read(folder(tmp_path, ["benign", "malignant"]), captions=said)
    assert found.classes[0].captions == ("Harmless.", "Quiet tissue.")


@pytest.mark.parametrize(
    ("labels", "column", "words"),
    [
        (["a", "b"], "diagnose", "no column diagnose: there are no labels"),
        (["", ""], "diagnosis", "No tile of .* has a label"),
        (["a"], "diagnosis", "of one class, a"),
        (["a", "<b>b"], "diagnosis", "class <b>b holds markup"),
        (["a", "b&nbsp;"], "diagnosis", "holds markup"),
        (["a", "b\u202e"], "diagnosis", "cannot be seen"),
        (["a", "=cmd|' /C calc'!A0"], "diagnosis", "is a formula"),
        (["a", "+1+cmd|' /C calc'!A0"], "diagnosis", "is a formula"),
        (["a", "b"], "file_name", "12 different labels"),
    ],
)
def test_bad_tables_are_refused_by_name(
    tmp_path: Path, labels: list[str], column: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_classes, "MOST_CLASSES", 10)
    with pytest.raises(DataError, match=words) as caught:
        read(folder(tmp_path, labels), column)
    assert caught.value.hint


def test_a_class_with_fewer_patients_than_folds_is_named(tmp_path: Path) -> None:
    words = r"2 of 2 classes .* fewer patients than the 2 folds: a \(1\), b \(1\)"
    with pytest.raises(DataError, match=words):
        read(folder(tmp_path, ["a", "b"], patients=1))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,text\na,b\n", "not the columns label and text"),
        ("label,text\nbenign,Quiet.\n", "no caption for malignant"),
        ("label,text\nbenign,<i>Quiet</i>\nmalignant,Loud\n", "benign holds markup"),
        ("label,text\nbenign,\nmalignant,Loud\n", "benign is empty"),
    ],
)
def test_bad_captions_are_refused_by_name(tmp_path: Path, text: str, words: str) -> None:
    said = tmp_path / "captions.csv"
    said.write_text(text)
    with pytest.raises(CraftsflError, match=words):
        read(folder(tmp_path, ["benign", "malignant"]), captions=said)
