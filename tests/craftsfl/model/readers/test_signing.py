"""`reader-study score --sign`: the result says whose pictures were judged, and by which key."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from craftsfl.audit.signing import make_auditor_key
from craftsfl.cli import app
from craftsfl.model.readers.subject import JudgedModel, judged_model
from model.generation.provenance import Drawing, Provenance, write_png
from model.origin import Origin
from privacy.audit.readers_result import SignedReaders
from privacy.errors import CraftsflError
from tests.client.pictures import write_csv

STUDY, ADAPTER = "2" * 64, "b" * 64
BASE = Drawing("sha256:" + "1" * 64, 20, 3.0, "craftsfl")
ADAPTED = replace(
    BASE,
    adapter=f"sha256:{ADAPTER}",
    adapter_source="a.safetensors",
    origin=Origin(BASE.base, "study", STUDY, "1", 2, 3.9, 1e-5),
)
OTHER = replace(ADAPTED, adapter="sha256:" + "c" * 64)


def pictures(folder: Path, level: int, drawing: Drawing | None) -> Path:
    """Six grey pictures, each its own; those of a model say so."""
    (folder / "images").mkdir(parents=True)
    rows = []
    for number in range(6):
        image = Image.fromarray(np.full((16, 16, 3), level + number, np.uint8))
        path = folder / "images" / f"{number}.png"
        if drawing is None:
            image.save(path)
        else:
            write_png(image, path, Provenance(drawing, (f"caption {number}",), (number,)))
        rows.append((f"images/{number}.png", f"caption {number}", f"patient-{level}-{number}"))
    write_csv(folder, rows)
    return folder


@pytest.fixture(scope="module")
def kits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ "whole" has all that can be signed; "plain" says nothing of its pictures."""
    root = tmp_path_factory.mktemp("kits")
    real = pictures(root / "real", 20, None)
    after = pictures(root / "after", 120, ADAPTED)
    before = pictures(root / "before", 220, BASE)
    plain = pictures(root / "unmarked", 70, None)
    for name, drawn, more in (("whole", after, ("--before", before)), ("plain", plain, ())):
        words = ("make", root / name, "--real", real, "--synthetic", drawn, *more, "--each", 6)
        done = typed(*words, "--readers", 2)
        assert done.exit_code == 0, done.output
        assert ("cannot be signed" in done.output) is (name == "plain")
    make_auditor_key(root / "ada.pem", None)
    return root


def typed(*words: object) -> Result:
    return CliRunner().invoke(app, ["model", "reader-study", *map(str, words)])


def answered(kit: Path, reader: str) -> Path:
    """All questions, rightly, and the picture from after training preferred."""
    held = json.loads((kit / "key.json").read_text())
    page = (kit / f"{reader}.html").read_text("utf-8")
    study = page.partition('"study": "')[2][:64]
    given = {item["id"]: item["truth"] or "3" for item in held["items"]}
    path = kit / f"{reader}-answers.json"
    values = {"format": 1, "study": study, "reader": reader, "answers": given}
    values["mark"] = page.partition('"mark": "')[2][:32]
    path.write_text(json.dumps(values))
    return path


def test_a_signed_result_is_of_this_key_and_this_adapter(kits: Path, tmp_path: Path) -> None:
    kit, out = kits / "whole", tmp_path / "ada.readers"
    files = [answered(kit, f"reader-{n:02d}") for n in (1, 2)]
    options = ("--sign", kits / "ada.pem", "--name", "ada", "-o", out)
    done = typed("score", kit / "key.json", *files, *options)
    assert done.exit_code == 0, done.output
    found = SignedReaders.decode(out.read_bytes())
    study = json.loads(files[0].read_text())["study"]
    assert (found.signer, found.key, found.adapter, found.study) == ("ada", study, ADAPTER, STUDY)
    assert (found.readers, found.missing) == (2, 0)
    assert found.told_apart is not None and found.preferred is not None
    assert (found.told_apart.value, found.preferred.value) == (1.0, 1.0)
    # As wide as the exact one: the bootstrap's has no width where everybody judges alike.
    assert found.preferred.low == pytest.approx(0.025 ** (1 / 12))
    assert out.stat().st_mode & 0o077 == 0
    error = typed("score", kit / "key.json", *files, *options).exception
    assert isinstance(error, CraftsflError) and "exists already" in error.message


@pytest.mark.parametrize(
    ("kit", "options", "words"),
    [
        ("plain", ("--sign", "ada.pem", "--name", "ada"), "does not say which adapter drew"),
        ("whole", ("--sign", "ada.pem"), "needs the signer's name"),
        ("whole", ("--sign", "ada.pem", "--name", "../ada"), "needs the signer's name"),
        ("whole", ("--name", "ada"), "without a key"),
        ("whole", ("--sign", "absent.pem", "--name", "ada"), "is not a file"),
        ("whole", ("--sign", "whole/key.json", "--name", "ada"), "key.json"),
    ],
)
def test_what_cannot_be_signed_says_why(
    kits: Path, tmp_path: Path, kit: str, options: tuple[str, ...], words: str
) -> None:
    named = [kits / word if word.endswith((".pem", ".json")) else word for word in options]
    folder = kits / kit
    file = answered(folder, "reader-01")
    error = typed("score", folder / "key.json", file, *named).exception
    assert isinstance(error, CraftsflError) and words in f"{error.message} {error.hint}"
    assert not list(folder.glob("*.readers"))


def test_whose_pictures_they_are(kits: Path, tmp_path: Path) -> None:
    after, before = kits / "after" / "images", kits / "before" / "images"
    mine, base = sorted(after.iterdir()), sorted(before.iterdir())
    whole = JudgedModel(BASE.base, f"sha256:{ADAPTER}", STUDY, True)
    assert judged_model(mine, base) == whole
    assert judged_model(mine, []) == replace(whole, base_before=False)
    assert judged_model(mine, mine) == replace(whole, base_before=False)
    other = pictures(tmp_path / "other", 9, OTHER) / "images" / "1.png"
    assert judged_model([*mine, other], base) is None
    assert judged_model([*mine, kits / "unmarked" / "images" / "1.png"], base) is None
    assert judged_model(base, base) is None  # no adapter: nothing to promote
    assert judged_model([], []) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"model": {"base": 3}},
        {"model": []},
        {"model": {"base": "x", "adapter": "y", "study": "z", "base_before": True}},
        {"items": []},
        {"items": [{"truth": "banana"}]},
        {"items": 2},
        {"readers": ["[red]reader"]},
        {"readers": 3},
    ],
)
def test_a_key_that_no_kit_has_ends_in_words(
    kits: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    held = json.loads((kits / "whole" / "key.json").read_text())
    items = changes.get("items")
    if items and isinstance(items, list):
        changes = {"items": [held["items"][0] | items[0]]}
    key = tmp_path / "key.json"
    key.write_text(json.dumps(held | changes))
    error = typed("score", key, shutil.copy(answered(kits / "whole", "reader-01"), tmp_path))
    assert isinstance(error.exception, CraftsflError)
    assert "not the key of a readers' study" in error.exception.message
