"""`craftsfl model describe` on files that somebody else made: nothing acts, nothing is believed."""

from __future__ import annotations

import json
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from typer.testing import CliRunner

import craftsfl.cli
from craftsfl.cli import app
from craftsfl.model.evaluation.subjects import ImageSource, drawn_source
from model.adapter_file import save_adapter
from model.generation.provenance import Drawing, Provenance, write_png
from model.layout import Layout, LayoutEntry
from model.origin import Origin
from privacy.errors import ModelError
from privacy.study.manifest import Adapter

EVIL = "glands\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp.exe\u2066\u200b\r\nPrivacy epsilon 0"
ORIGIN = Origin("sha256:" + "1" * 64, EVIL, "2" * 64, EVIL, 12, 0.01, 1e-5)
PICTURE = Image.new("RGB", (16, 16))


def run(*arguments: str | Path) -> str:
    done = CliRunner().invoke(app, ["model", "describe", *map(str, arguments)])
    if done.exception is not None:
        raise done.exception
    return done.output


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """What a stranger's program wrote with craftsfl's own words."""
    drawing = Drawing(EVIL, 20, 3.0, EVIL, EVIL, EVIL, ORIGIN, EVIL, 1.0)
    return forged(tmp_path, Provenance(drawing, (EVIL,), (7,), (EVIL,)).to_json())


def forged(folder: Path, text: str) -> Path:
    chunks = PngImagePlugin.PngInfo()
    chunks.add_itxt("craftsfl", text)
    path = folder / "x\x1b[31m.png"
    PICTURE.save(path, "PNG", pnginfo=chunks)
    return path


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    entries = (("lora_A", (1, 4)), ("lora_B", (4, 1)))
    layout = Layout(
        tuple(LayoutEntry(f"m.{name}.weight", shape, "float32") for name, shape in entries)
    )
    path = tmp_path / "a.safetensors"
    lora = Adapter(targets=("m", EVIL), rank=1, alpha=1.0)
    save_adapter(path, layout, np.zeros(8, np.float32), lora, ORIGIN)
    return path


@pytest.mark.parametrize("options", [[], ["--json"]])
@pytest.mark.parametrize("kind", ["picture", "adapter"])
def test_nothing_of_a_file_acts_on_the_terminal(
    kind: str, options: list[str], request: pytest.FixtureRequest
) -> None:
    said = run(*options, request.getfixturevalue(kind))
    assert "".join(said.split("\n")).isprintable()
    assert "as the file claims" in said
    assert "\\x1b" in said
    if options:
        for value in json.loads(said).values():
            assert all("".join(text).isprintable() for text in value.values())


def test_claims_and_facts_are_told_apart(picture: Path, adapter: Path) -> None:
    (said,) = json.loads(run("--json", adapter)).values()
    assert said["as the file claims"] == ["Privacy", "Model", "Study", "Run"]
    (said,) = json.loads(run("--json", picture)).values()
    assert set(said) - {"as the file claims"} == set(said["as the file claims"])
    shown = run(adapter)
    assert shown.index("Layout") < shown.index("as the file claims") < shown.index("│ Privacy")


def _values(**changes: Any) -> dict[str, Any]:
    drawing = Drawing("sha256:1", 20, 3.0, "craftsfl 1")
    values = json.loads(Provenance(drawing, ("glands",), (7,)).to_json())
    for key, value in changes.items():
        values["drawing" if key in values["drawing"] else "."] = values["drawing"] | {key: value}
        if key in values:
            values[key] = value
    values.pop(".", None)
    return values


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (json.dumps(_values(steps="20")), "drawing.steps"),
        (json.dumps(_values(steps=True)), "drawing.steps"),
        (json.dumps(_values(steps=2.5)), "drawing.steps"),
        (json.dumps(_values(guidance="3")), "drawing.guidance"),
        (json.dumps(_values(guidance=[3])), "drawing.guidance"),
        (json.dumps(_values(guidance=float("nan"))), "NaN"),
        (json.dumps(_values(base=None)), "drawing.base"),
        (json.dumps(_values(adapter=7)), "drawing.adapter"),
        (json.dumps(_values(control="c")), "without its strength"),
        (json.dumps(_values(control="c", strength={})), "drawing.strength"),
        (json.dumps(_values(origin="x")), "drawing.origin"),
        (json.dumps(_values(origin={})), "drawing.origin"),
        (json.dumps(_values(prompts="glands")), "prompts"),
        (json.dumps(_values(prompts=[1])), "prompts.0"),
        (json.dumps(_values(seeds=["1"])), "seeds.0"),
        (json.dumps(_values(seeds={})), "seeds"),
        (json.dumps(_values(conditions=[None])), "conditions.0"),
        (json.dumps(_values() | {"\x1b[2J": 1}), r"x1b\[2J"),
        (json.dumps(_values())[:-1] + ', "seeds": [8]}', "twice"),
        (json.dumps(_values(seeds=[7])).replace("7", "9" * 5000), "too large"),
        (json.dumps(_values(base="\ud800")), "surrogate"),
        ("[]", "wrong"),
        ("null", "wrong"),
        ("[" * 100_000, "too deeply"),
        ("", "not JSON"),
    ],
)
def test_words_of_a_wrong_type_are_a_clear_error(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ModelError, match=says) as caught:
        run(forged(tmp_path, text))
    assert caught.value.hint


def test_a_picture_that_is_none_or_a_bomb_is_a_clear_error(tmp_path: Path, picture: Path) -> None:
    content = bytearray(picture.read_bytes())
    content[16:24] = struct.pack(">II", 100_000, 100_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
    for name, wrong in (("bomb", bytes(content)), ("eps", postscript), ("empty", b"")):
        path = tmp_path / f"{name}.png"
        path.write_bytes(wrong)
        with pytest.raises(ModelError, match="not a readable PNG picture"):
            run(path)
    write_png(PICTURE, tmp_path / "good.png", Provenance(Drawing("b", 1, 1.0, "s"), ("p",), (1,)))
    assert "not a patient" in " ".join(run(tmp_path / "good.png").split())


def test_a_report_names_only_digests_that_a_picture_claims(tmp_path: Path, picture: Path) -> None:
    assert drawn_source(picture) == ImageSource()
    drawing = Drawing("sha256:" + "1" * 64, 20, 3.0, "s", origin=ORIGIN)
    write_png(PICTURE, tmp_path / "good.png", Provenance(drawing, ("p",), (1,)))
    source = drawn_source(tmp_path / "good.png")
    assert source.base == drawing.base
    assert "claim" in source.claims


def test_an_error_shows_a_files_name_and_does_not_obey_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also markup: a name may hold rich's own, and a bracket that closes nothing."""
    name = "\x1b[2J\u202e\\[/nothing][bold].png"
    monkeypatch.setattr(sys, "argv", ["craftsfl", "model", "describe", str(tmp_path / name)])
    with pytest.raises(SystemExit) as ended:
        craftsfl.cli.main()
    said = capsys.readouterr().err
    assert ended.value.code == 1
    assert "".join(said.split("\n")).isprintable()
    assert "Error:" in said and "Next:" in said
    assert r"\x1b[2J\u202e\[/nothing][bold].png" in said.replace("\n", "")
