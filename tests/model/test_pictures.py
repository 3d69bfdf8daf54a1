"""One place opens pictures: known formats only, bounded, read rightly or refused with the cure."""

from __future__ import annotations

import stat
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from client.data.images import read_tile, read_tile_mask
from model.generation.provenance import read_provenance
from model.lab.control.markers import read_markers
from model.lab.control.masks import read_mask as read_nuclei
from model.lab.control.pairs import read_image as read_pair
from model.lab.drawing.folder import _open
from model.lab.stage_one.pictures import Unusable, decode_square
from model.pictures import UnreadablePicture, open_picture
from privacy.errors import DataError, ModelError
from tests.client.slides.making import specimen, write_svs

CASES = Path(__file__).parents[3] / "shared" / "cases" / "images"
Reader = Callable[[Path], object]
COLOUR: dict[str, Reader] = {
    "site": lambda path: read_tile(path, 32),
    "stage one": lambda path: decode_square(path.read_bytes(), 32),
    "pair": read_pair,
}
READERS: dict[str, Reader] = COLOUR | {
    "site's mask": lambda path: read_tile_mask(path, 32),
    "nuclei": read_nuclei,
    "markers": read_markers,
    "folder": _open,
    "provenance": read_provenance,
}
REFUSED = (DataError, ModelError, Unusable)


def grey(high: int, size: int = 32) -> Image.Image:
    """16-bit grey from 0 to `high`."""
    return Image.fromarray(np.linspace(0, high, size * size).reshape(size, -1).astype(np.uint16))


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_postscript_called_png_starts_no_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: Reader
) -> None:
    started = tmp_path / "started"
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {started}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    path = tmp_path / "x.png"
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n")
    with pytest.raises(REFUSED, match="not an image of a known format"):
        reader(path)
    assert not started.exists()
    with pytest.raises(OSError), Image.open(path) as image:  # what the list of formats is for
        image.load()
    assert started.exists()


def _bomb(path: Path) -> None:
    """A little file whose header promises 10 gigapixels."""
    Image.new("L", (32, 32)).save(path, "PNG")
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">II", 100_000, 100_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.parametrize(
    ("write", "says"),
    [
        (_bomb, "far more pixels"),
        (lambda path: path.write_bytes(b""), "the file is empty"),
        (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), "git-lfs"),
        (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n"), "damaged|not an image|cannot"),
        (lambda path: path.write_text("<svg/>"), "not an image of a known format"),
    ],
)
def test_what_is_no_picture_is_refused_by_all(
    tmp_path: Path, reader: Reader, write: Callable[[Path], object], says: str
) -> None:
    write(tmp_path / "x.png")
    with pytest.raises(REFUSED, match=says):
        reader(tmp_path / "x.png")


def test_the_bound_holds_before_anything_is_decoded(tmp_path: Path) -> None:
    Image.new("1", (300, 300)).save(tmp_path / "x.png")
    with (
        pytest.raises(UnreadablePicture, match="300x300 pixels"),
        open_picture(tmp_path / "x.png", most=300 * 299),
    ):
        pytest.fail("it was opened")
    with open_picture((tmp_path / "x.png").read_bytes(), most=300 * 300) as image:
        assert image.size == (300, 300)
    with (
        pytest.raises(UnreadablePicture, match="No such file"),
        open_picture(tmp_path / "none.png", most=1),
    ):
        pytest.fail("it was opened")


@pytest.mark.parametrize("reader", COLOUR.values(), ids=COLOUR)
@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_a_camera_of_fewer_bits_is_not_read_as_black(
    tmp_path: Path, reader: Reader, suffix: str, bits: int
) -> None:
    path = tmp_path / f"x.{suffix}"
    grey(2**bits - 1).save(path)
    with pytest.raises(REFUSED, match=rf"16-bit pixels that reach only {2**bits - 1} of 65535"):
        reader(path)
    grey(65_535).save(path)
    assert np.asarray(reader(path)).max() > 200


def _colour16(path: Path, high: int, channels: int) -> None:
    """A 16-bit PNG of several channels, which Pillow reads and does not write."""
    values = np.linspace(0, high, 32 * 32 * channels).reshape(32, -1).astype(">u2")
    lines = b"".join(b"\0" + line.tobytes() for line in values)
    header = struct.pack(">IIBBBBB", 32, 32, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")):
        chunk = kind + body
        content += struct.pack(">I", len(body)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    path.write_bytes(content)


@pytest.mark.parametrize("reader", COLOUR.values(), ids=COLOUR)
@pytest.mark.parametrize("channels", [2, 3, 4])
def test_nor_is_one_with_colours(tmp_path: Path, reader: Reader, channels: int) -> None:
    _colour16(tmp_path / "x.png", 4095, channels)
    with pytest.raises(REFUSED, match="fewer bits"):
        reader(tmp_path / "x.png")
    _colour16(tmp_path / "x.png", 65_535, channels)
    assert np.asarray(reader(tmp_path / "x.png")).max() > 200


SINGLE = {
    name: reader for name, reader in READERS.items() if name in (*COLOUR, "site's mask", "nuclei")
}


@pytest.mark.parametrize("reader", SINGLE.values(), ids=SINGLE)
def test_a_stack_is_no_tile(tmp_path: Path, reader: Reader) -> None:
    pages = [grey(high) for high in (50_000, 60_000, 65_535)]
    pages[0].save(tmp_path / "x.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(REFUSED, match="a stack of pages of one size: export the one you need"):
        reader(tmp_path / "x.tif")
    assert read_markers(tmp_path / "x.tif").shape == (3, 32, 32)  # there each page is a marker


def test_a_pyramids_first_page_is_the_tile(tmp_path: Path) -> None:
    pages = [Image.new("RGB", (64, 64), "red"), Image.new("RGB", (32, 32), "blue")]
    pages[0].save(tmp_path / "x.tif", save_all=True, append_images=pages[1:])
    assert np.all(read_tile(tmp_path / "x.tif", 32) == (255, 0, 0))


def test_pages_of_any_size_count_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = [Image.new("L", (8, 8)), Image.new("L", (64, 64))]
    pages[0].save(tmp_path / "x.tif", save_all=True, append_images=pages[1:])
    monkeypatch.setattr("model.lab.control.markers._MOST_OF_ALL", 8 * 8 + 64 * 64 - 1)
    with pytest.raises(ModelError, match="4160 pixels on its pages"):
        read_markers(tmp_path / "x.tif")


def test_a_preview_before_the_picture_is_not_the_tile(tmp_path: Path) -> None:
    pages = [Image.new("RGB", (32, 32), "blue"), Image.new("RGB", (64, 64), "red")]
    pages[0].save(tmp_path / "x.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match="a small preview: export the page you need"):
        read_tile(tmp_path / "x.tif", 32)


def _greys(path: Path, values: np.ndarray, *, sample: int = 1, photometric: int = 1) -> None:
    """A TIFF of one strip whose tags say how the greys are meant."""
    height, width = values.shape
    tags = [
        *((256, width), (257, height), (258, values.itemsize * 8), (259, 1), (262, photometric)),
        *((273, 134), (277, 1), (278, height), (279, values.nbytes), (339, sample)),
    ]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + b"\0" * 4
    path.write_bytes(head + values.tobytes())


@pytest.mark.parametrize("reader", COLOUR.values(), ids=COLOUR)
@pytest.mark.parametrize("kind", ["<i2", "i1"])
def test_signed_greys_have_no_agreed_range(tmp_path: Path, reader: Reader, kind: str) -> None:
    values = np.linspace(-100, 100, 32 * 32).reshape(32, 32).astype(kind)
    _greys(tmp_path / "x.tif", values, sample=2)
    with pytest.raises(REFUSED, match="export unsigned 8 or 16 bit"):
        reader(tmp_path / "x.tif")
    _greys(tmp_path / "x.tif", np.abs(values), sample=2)  # nothing negative shows it
    with pytest.raises(REFUSED, match="export unsigned 8 or 16 bit"):
        reader(tmp_path / "x.tif")


def test_white_as_zero_is_turned_or_refused(tmp_path: Path) -> None:
    values = np.full((32, 32), 10, dtype=np.uint8)
    _greys(tmp_path / "x.tif", values, photometric=0)
    assert np.all(read_tile(tmp_path / "x.tif", 32) == 245)
    _greys(tmp_path / "x.tif", np.full((32, 32), 60_000, dtype="<u2"), photometric=0)
    with pytest.raises(DataError, match="export them with zero as black"):
        read_tile(tmp_path / "x.tif", 32)


def test_labels_that_would_be_read_as_others_are_refused(tmp_path: Path) -> None:
    """Pillow hands over 255 for -1, and turns white as zero: background would be a nucleus."""
    _greys(tmp_path / "x.tif", np.full((32, 32), -1, dtype="i1"), sample=2)
    with pytest.raises(DataError, match="export them unsigned"):
        read_tile_mask(tmp_path / "x.tif", 32)
    _greys(tmp_path / "x.tif", np.full((32, 32), 3, dtype=np.uint8), photometric=0)
    with pytest.raises(DataError, match="zero as black"):
        read_tile_mask(tmp_path / "x.tif", 32)
    _greys(tmp_path / "x.tif", np.full((32, 32), 3, dtype="<i2"), sample=2)
    assert read_tile_mask(tmp_path / "x.tif", 32).max() == 3


@pytest.mark.parametrize("reader", COLOUR.values(), ids=COLOUR)
def test_a_whole_slide_is_no_tile(tmp_path: Path, reader: Reader) -> None:
    path = write_svs(tmp_path / "x.svs", specimen(64))
    with pytest.raises(REFUSED, match="a whole slide, not a tile: craftsfl site tile"):
        reader(path)


def test_an_array_of_numbers_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((32, 32)))
    with pytest.raises(DataError, match="a NumPy array; export it as PNG or TIFF"):
        read_tile(tmp_path / "x.npy", 32)


@pytest.mark.skipif(not CASES.is_dir(), reason="the cases (../shared/cases/images) are not here")
@pytest.mark.parametrize("path", sorted(CASES.glob("*")), ids=lambda path: path.name)
@pytest.mark.parametrize("reader", COLOUR.values(), ids=COLOUR)
def test_the_cases_are_refused_with_the_cure(path: Path, reader: Reader) -> None:
    with pytest.raises(REFUSED, match=r"export|the file is empty"):
        reader(path)
