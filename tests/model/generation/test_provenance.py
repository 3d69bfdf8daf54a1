from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from model.generation.provenance import (
    SOURCE_TYPE,
    Drawing,
    Provenance,
    read_provenance,
    software,
    write_png,
)
from model.origin import Origin
from privacy.errors import ModelError

ORIGIN = Origin(
    "sha256:" + "1" * 64, "breast-study", "2" * 64, "77", 12, 7.93, 1e-5, ("sha256:" + "3" * 64,)
)
BASE = Drawing(base="sha256:" + "1" * 64, steps=20, guidance=3.0, software=software())
ADAPTED = replace(
    BASE, adapter="sha256:" + "3" * 64, adapter_source="models:/breast-study/4", origin=ORIGIN
)
PICTURE = Image.fromarray(np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3))


def written(folder: Path, drawing: Drawing, prompt: str = "glands & <stroma>; Drüsen") -> Path:
    path = folder / "picture.png"
    write_png(PICTURE, path, Provenance(drawing, (prompt,), (7,)))
    return path


def texts(path: Path) -> dict[str, str]:
    with Image.open(path) as image:
        image.load()
        return {str(key): str(value) for key, value in image.info.items()}


@pytest.mark.parametrize("drawing", [BASE, ADAPTED])
def test_what_was_written_is_read_back(tmp_path: Path, drawing: Drawing) -> None:
    path = written(tmp_path, drawing)
    assert read_provenance(path) == Provenance(drawing, ("glands & <stroma>; Drüsen",), (7,))
    assert np.array_equal(np.asarray(Image.open(path)), np.asarray(PICTURE))
    assert [entry.name for entry in tmp_path.iterdir()] == ["picture.png"]


def test_any_viewer_shows_that_it_is_synthetic_and_where_it_comes_from(tmp_path: Path) -> None:
    chunks = texts(written(tmp_path, ADAPTED))
    assert chunks["Synthetic"].startswith("yes: generated")
    assert "not a patient" in chunks["Synthetic"]
    assert chunks["Description"] == "glands & <stroma>; Drüsen"
    assert (chunks["Seed"], chunks["Steps"], chunks["Guidance"]) == ("7", "20", "3")
    assert chunks["Model"] == "sha256:" + "1" * 64
    assert chunks["Adapter"] == f"sha256:{'3' * 64} (models:/breast-study/4)"
    assert (chunks["Epsilon"], chunks["Delta"]) == ("7.93", "1e-05")
    assert "epsilon at most 7.93 at delta 1e-05" in chunks["Privacy"]
    assert chunks["Software"].startswith("craftsfl")


def test_the_xmp_packet_names_the_iptc_source_type(tmp_path: Path) -> None:
    packet = texts(written(tmp_path, ADAPTED))["XML:com.adobe.xmp"]
    tree = ElementTree.fromstring(packet)
    name = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"
    assert [e.text for e in tree.iter(f"{name}DigitalSourceType")] == [SOURCE_TYPE]
    assert SOURCE_TYPE.endswith("/trainedAlgorithmicMedia")
    (prompt,) = tree.iter(f"{name}AIPromptInformation")
    assert prompt.text == "glands & <stroma>; Drüsen"


def test_no_control_character_breaks_the_packet(tmp_path: Path) -> None:
    packet = texts(written(tmp_path, BASE, "glands\x00\x1b[31m \ufffe"))["XML:com.adobe.xmp"]
    (prompt,) = ElementTree.fromstring(packet).iter(
        "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}AIPromptInformation"
    )
    assert prompt.text == "glands[31m "


def test_what_is_not_known_is_not_promised(tmp_path: Path) -> None:
    without = replace(ADAPTED, origin=None)
    assert texts(written(tmp_path, without))["Privacy"].startswith("unknown")
    noiseless = replace(ADAPTED, origin=replace(ORIGIN, epsilon=None))
    chunks = texts(written(tmp_path, noiseless))
    assert chunks["Privacy"] == "none: the study adds no noise"
    assert chunks["Epsilon"] == "none"
    assert texts(written(tmp_path, BASE))["Privacy"].startswith("no adapter")


def test_the_same_picture_is_the_same_bytes(tmp_path: Path) -> None:
    assert written(tmp_path, ADAPTED).read_bytes() == written(tmp_path, ADAPTED).read_bytes()


def test_other_pictures_say_nothing(tmp_path: Path) -> None:
    plain, none, cut = tmp_path / "plain.png", tmp_path / "x.png", tmp_path / "cut.png"
    PICTURE.save(plain)
    whole = written(tmp_path, BASE).read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    for path in (plain, none, cut):
        with pytest.raises(ModelError):
            read_provenance(path)


def test_a_picture_that_was_tampered_with_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, ADAPTED)
    content = path.read_bytes().replace(b'"epsilon": 7.93', b'"epsilon": "xx"')
    path.write_bytes(_with_sums(content))
    with pytest.raises(ModelError):
        read_provenance(path)


def _with_sums(content: bytes) -> bytes:
    """The PNG with every chunk's CRC made right again."""
    import zlib

    out, at = content[:8], 8
    while at < len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        body = content[at + 4 : at + 8 + length]
        out += content[at : at + 4] + body + struct.pack(">I", zlib.crc32(body))
        at += 12 + length
    return out
