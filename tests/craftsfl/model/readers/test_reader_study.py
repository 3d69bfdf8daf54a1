"""`craftsfl model reader-study`: blinded pages that work in a browser, a sealed key, a score."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from craftsfl.cli import app
from privacy.errors import CraftsflError
from tests.client.pictures import write_csv

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
MARKUP = "</script/><script>document.title='broken'</script/><b>glands"  # tags that tables may have


def tiles(folder: Path, level: int, count: int = 6) -> Path:
    """Tiles of one grey level each, with captions that hold markup."""
    (folder / "images").mkdir(parents=True)
    rows = []
    for number in range(count):
        values = np.full((32, 32, 3), level + number, np.uint8)
        Image.fromarray(values).save(folder / "images" / f"canary-{number}.png")
        caption = f"canary caption {number}" if number else MARKUP
        rows.append((f"images/canary-{number}.png", caption, f"canary-patient-{level}-{number}"))
    write_csv(folder, rows)
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    levels = {"real": 20, "synthetic": 120, "before": 220}
    return {name: tiles(tmp_path / name, level) for name, level in levels.items()}


def make(folders: dict[str, Path], out: Path, *options: str) -> Result:
    names = [word for name, path in folders.items() for word in (f"--{name}", str(path))]
    words = ["model", "reader-study", "make", str(out), *names, "--each", "5", *options]
    return CliRunner().invoke(app, words)


def score(out: Path, *files: Path, json: bool = True) -> Result:
    flags = ["--json"] if json else []
    words = ["model", "reader-study", "score", str(out / "key.json"), *map(str, files), *flags]
    return CliRunner().invoke(app, words)


def refused(result: Result) -> CraftsflError:
    assert isinstance(result.exception, CraftsflError), result.output
    return result.exception


@pytest.fixture
def kit(folders: dict[str, Path], tmp_path: Path) -> Path:
    result = make(folders, tmp_path / "kit", "--readers", "2")
    assert result.exit_code == 0, result.output
    return tmp_path / "kit"


def page_data(page: Path) -> dict[str, Any]:
    found = re.search(r'id="data">(.*?)</script>', page.read_text("utf-8"), re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def answers_of(kit: Path, reader: str, /, **changes: Any) -> Path:
    """What a reader who knows the key would save."""
    key = json.loads((kit / "key.json").read_text())
    given = {item["id"]: item["truth"] or "4" for item in key["items"]}
    page = page_data(kit / f"{reader}.html")
    values = {"format": 1, "reader": reader, "answers": given, "seconds": {}}
    values |= {"study": page["study"], "mark": page["mark"]}
    path = kit / f"{reader}-answers.json"
    path.write_text(json.dumps({**values, **changes}))
    return path


def test_a_page_says_nothing_of_what_is_what(kit: Path) -> None:
    key = json.loads((kit / "key.json").read_text())
    truth = {item["id"]: item for item in key["items"]}
    orders = []
    for page in sorted(kit.glob("reader-*.html")):
        text = page.read_text("utf-8")
        for hidden in ("canary-patient", "images/", "before", 'origin":', "truth", key["salt"]):
            assert hidden not in page_data_text(text), hidden
        data = page_data(page)
        assert {item["id"] for item in data["items"]} == set(truth)
        assert all(set(item) == {"id", "task", "pictures", "captions"} for item in data["items"])
        orders.append([item["id"] for item in data["items"]])
        assert "http" not in re.sub(r"http-equiv", "", text)
        assert "default-src 'none'" in text
        assert page.stat().st_mode & 0o077 == 0
    assert orders[0] != orders[1]


def page_data_text(text: str) -> str:
    found = re.search(r'id="data">(.*?)</script>', text, re.DOTALL)
    return found[1] if found else ""


def test_pictures_are_pixels_alone(kit: Path) -> None:
    import base64
    import io

    data = page_data(kit / "reader-01.html")
    sizes = set()
    for text in data["pictures"].values():
        picture = Image.open(io.BytesIO(base64.b64decode(text.partition(",")[2])))
        sizes.add((picture.size, picture.format))
        assert not picture.info
    assert sizes == {((32, 32), "PNG")}


def test_answers_are_scored(kit: Path) -> None:
    files = [answers_of(kit, f"reader-{n:02d}") for n in (1, 2)]
    result = score(kit, *files)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["missing"] == {"reader-01": 0, "reader-02": 0}
    values = {(f["task"], f["figure"], f["reader"]): f["value"] for f in found["figures"]}
    assert values["origin", "accuracy", "all"] == 1.0
    assert values["caption", "accuracy", "reader-01"] == 1.0
    assert values["pair", "preferred the one from after training", "all"] == 1.0
    assert values["quality", "points, real", "all"] == 4.0
    assert "kappa" in score(kit, *files, json=False).stdout


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"study": "ab" * 32}, "of another study"),
        ({"reader": "reader-09"}, "no reader of this study"),
        ({"answers": {}}, "answered nothing"),
        ({"reader": "reader-02"}, "not saved by the page of reader-02"),
        ({"mark": "0" * 32}, "not saved by the page of reader-01"),
        ({"format": 2}, "newer craftsfl"),
        ({"answers": {"unknown": "real"}}, "was edited"),
        ({"answers": 3}, "no answers of a reader"),
    ],
)
def test_answers_that_do_not_belong_are_refused(
    kit: Path, changes: dict[str, Any], words: str
) -> None:
    assert words in refused(score(kit, answers_of(kit, "reader-01", **changes))).message


def test_a_key_that_was_changed_opens_nothing(kit: Path) -> None:
    file = answers_of(kit, "reader-01")
    assert "second file of reader-01" in refused(score(kit, file, file)).message
    key = kit / "key.json"
    key.write_text(key.read_text().replace('"truth": "real"', '"truth": "synthetic"', 1))
    assert "changed since it was sealed" in refused(score(kit, file)).message
    key.write_text("{}")
    assert "not the key" in refused(score(kit, file)).message


def test_folders_that_do_not_do_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "kit"
    assert "--each 6" in refused(make(folders, out, "--each", "7")).hint
    assert "exists already" in refused(make(folders, tmp_path)).message
    same = {**folders, "synthetic": folders["real"]}
    assert "generated images and in that of real ones" in refused(make(same, out)).message
    for path in (folders["before"] / "images").iterdir():
        path.rename(path.with_name(f"other-{path.name}"))
    table = folders["before"] / "metadata.csv"
    table.write_text(table.read_text().replace("images/", "images/other-"))
    assert "has name and caption of one" in refused(make(folders, out)).message
    assert not out.exists()


# Answers every question by its first key, closes half-way, and tells what it has saved.
_DRIVER = """
<script>
const press = (key) => document.dispatchEvent(new KeyboardEvent("keydown", { key }));
document.querySelector("main button").click();
const first = { origin: "r", caption: "b", pair: "2", quality: "5" };
for (const item of data.items) press(first[item.task]);
press("ArrowLeft"); press("1");
const kept = localStorage.getItem(place);
state = { at: -1, answers: {}, seconds: {} }; load(); show();
let saved = null;
window.URL.createObjectURL = (blob) => { saved = blob; return "blob:none"; };
HTMLAnchorElement.prototype.click = function () {};
save();
saved.text().then((text) => {
  const said = document.createElement("script"); said.type = "text/plain"; said.id = "said";
  const head = document.querySelector("h1").textContent;
  said.textContent = JSON.stringify({ file: text, title: document.title, head });
  document.body.append(said);
});
</script></body>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_a_browser_answers_by_keyboard_keeps_and_saves(kit: Path, tmp_path: Path) -> None:
    page = tmp_path / "driven.html"
    page.write_text((kit / "reader-01.html").read_text("utf-8").replace("</body>", _DRIVER))
    command = [str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000"]
    done = subprocess.run(
        [*command, "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    found = re.search(r'id="said">(.*?)</script>', done.stdout, re.DOTALL)
    assert found is not None, done.stdout[-2000:]
    said = json.loads(found[1])
    assert (said["title"], said["head"]) == ("Readers' study", "Thank you")
    file = tmp_path / "reader-01-answers.json"
    file.write_text(said["file"])
    values = json.loads(said["file"])
    tasks = {item["id"]: item["task"] for item in page_data(kit / "reader-01.html")["items"]}
    expected = {"origin": "real", "caption": "1", "pair": "1", "quality": "5"}
    last = list(page_data(kit / "reader-01.html")["items"])[-1]["id"]
    for id, text in values["answers"].items():
        assert text == ("1" if id == last else expected[tasks[id]])
    assert set(values["answers"]) == set(values["seconds"]) == set(tasks)
    assert score(kit, file).exit_code == 0
