from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from client.data import read_tile, read_tile_mask
from privacy.errors import DataError

from .pictures import noise

Save = Callable[[Path], None]


def _sixteen_bit_grey(path: Path) -> None:
    Image.fromarray(np.full((40, 30), 0x8080, dtype=np.uint16)).save(path)


def _palette(path: Path) -> None:
    noise().quantize(16).save(path)


def _clear_palette(path: Path) -> None:
    image = Image.new("P", (32, 32), 3)
    image.putpalette([0, 0, 0] * 4)
    image.save(path, transparency=3)


@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("wide.png", lambda path: noise(40, 20).save(path)),
        ("tall.jpg", lambda path: noise(20, 50).save(path)),
        ("grey.png", lambda path: noise().convert("L").save(path)),
        ("bits.png", lambda path: noise().convert("1").save(path)),
        ("alpha.png", lambda path: noise().convert("RGBA").save(path)),
        ("grey-alpha.png", lambda path: noise().convert("LA").save(path)),
        ("palette.png", _palette),
        ("clear-palette.png", _clear_palette),
        ("cmyk.jpg", lambda path: noise().convert("CMYK").save(path)),
        ("cmyk.tif", lambda path: noise().convert("CMYK").save(path)),
        ("lab.tif", lambda path: noise().convert("LAB").save(path)),
        ("grey16.png", _sixteen_bit_grey),
        ("grey16.tif", _sixteen_bit_grey),
        ("tile.webp", lambda path: noise().save(path)),
        ("tile.jp2", lambda path: noise().save(path)),
        ("tile.bmp", lambda path: noise().save(path)),
    ],
)
def test_every_kind_of_tile_becomes_square_rgb(tmp_path: Path, name: str, save: Save) -> None:
    save(tmp_path / name)
    pixels = read_tile(tmp_path / name, 24)
    assert pixels.shape == (24, 24, 3)
    assert pixels.dtype == np.uint8


def test_sixteen_bit_grey_keeps_its_level(tmp_path: Path) -> None:
    _sixteen_bit_grey(tmp_path / "grey.png")
    assert np.all(read_tile(tmp_path / "grey.png", 16) == 0x80)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_are_white(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (32, 32)).save(tmp_path / "clear.png")
    assert np.all(read_tile(tmp_path / "clear.png", 16) == 255)


def test_transparent_palette_entries_are_white(tmp_path: Path) -> None:
    _clear_palette(tmp_path / "clear.png")
    assert np.all(read_tile(tmp_path / "clear.png", 16) == 255)


def test_a_square_tile_of_the_right_size_is_not_touched(tmp_path: Path) -> None:
    noise().save(tmp_path / "tile.png")
    assert np.array_equal(read_tile(tmp_path / "tile.png", 32), np.asarray(noise()))


def test_the_centre_is_kept(tmp_path: Path) -> None:
    image = Image.new("RGB", (64, 32), "black")
    image.paste("red", (16, 0, 48, 32))
    image.save(tmp_path / "tile.png")
    assert np.all(read_tile(tmp_path / "tile.png", 32) == (255, 0, 0))


def test_the_cameras_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.new("RGB", (32, 32), "black")
    image.paste("white", (0, 0, 32, 16))
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by 180 degrees
    image.save(tmp_path / "tile.png", exif=exif)
    assert np.all(read_tile(tmp_path / "tile.png", 32)[20:] == 255)


def _truncated(path: Path) -> None:
    noise(64, 64).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:800])


def _flipped(path: Path) -> None:
    noise(64, 64).save(path, "PNG")
    data = bytearray(path.read_bytes())
    data[60:90] = bytes(30)
    path.write_bytes(bytes(data))


def _hidden(path: Path) -> None:
    image = noise().convert("RGBA")
    image.putalpha(0)
    image.save(path, "PNG")


def _two_channels(path: Path) -> None:
    """Two stains as two samples a pixel, which Pillow takes for a grey with transparency."""
    pixels = np.full((32, 32, 2), 200, np.uint8)
    tifffile.imwrite(path, pixels, photometric="minisblack", planarconfig="contig")


def _bomb(path: Path) -> None:
    """A little file whose header promises 10 gigapixels."""
    noise().save(path, "PNG")
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">II", 100_000, 100_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (_truncated, "damaged"),
        (_flipped, "damaged"),
        (_bomb, "far more pixels"),
        (lambda path: Image.new("1", (5000, 5000)).save(path, "PNG"), "not a tile"),
        (lambda path: noise(8, 64).save(path, "PNG"), "smaller than 16x16"),
        (lambda path: path.write_bytes(b""), "not an image of a known format"),
        (
            lambda path: path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n"),
            "not an image of a known format",
        ),
        (lambda path: path.write_text("<svg/>"), "not an image of a known format.*an SVG drawing"),
        (lambda path: path.write_bytes(bytes(128) + b"DICM"), "a DICOM file; export it as PNG"),
        (lambda path: path.write_bytes(b"\0\0\0\x18ftypheic"), "a HEIC picture, as telephones"),
        (lambda path: noise().save(path, "GIF"), "a GIF picture; export it as PNG"),
        (lambda path: path.write_bytes(b"\xff\xd8\xff\xf7\0\x0b"), "a rare kind of JPEG"),
        (lambda path: path.write_bytes(b"\x89PNG\n\x1a\n"), "damaged, as by a transfer as text"),
        (lambda path: path.write_bytes(bytes(500)), "nothing but zeros"),
        (lambda path: path.write_bytes(b"Salted__" + bytes(9)), "encrypted$"),
        (lambda path: path.write_text("<!DOCTYPE html>"), "a web page, not a file that it offers"),
        (lambda path: path.write_bytes(b"\0\5\x16\7" + bytes(99)), "macOS' companion of a file"),
        (lambda path: _hidden(path), "every pixel is transparent, and there is a picture beneath"),
        (lambda path: _two_channels(path), "two channels of which none is transparency"),
        (lambda path: Image.new("F", (32, 32)).save(path, "TIFF"), "floating-point"),
        (
            lambda path: Image.new("I", (32, 32), 70_000).save(path, "TIFF"),
            "outside the 16-bit range",
        ),
    ],
)
def test_unusable_pictures_are_refused_with_a_reason(
    tmp_path: Path, write: Save, reason: str
) -> None:
    path = tmp_path / "canary-name"
    write(path)
    with pytest.raises(DataError, match=reason) as caught:
        read_tile(path, 32)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_masks_keep_their_labels(tmp_path: Path, kind: type[np.generic]) -> None:
    labels = (np.arange(32 * 32).reshape(32, 32) % 200).astype(kind)
    Image.fromarray(labels).save(tmp_path / "mask.png")
    assert np.array_equal(read_tile_mask(tmp_path / "mask.png", 32), labels)
    assert set(np.unique(read_tile_mask(tmp_path / "mask.png", 20))) <= set(np.unique(labels))


def test_large_labels_survive(tmp_path: Path) -> None:
    Image.fromarray(np.full((40, 32), 65_535, dtype=np.uint16)).save(tmp_path / "mask.png")
    assert np.all(read_tile_mask(tmp_path / "mask.png", 32) == 65_535)


def test_coloured_masks_are_refused(tmp_path: Path) -> None:
    noise().save(tmp_path / "mask.png")
    with pytest.raises(DataError, match="one channel"):
        read_tile_mask(tmp_path / "mask.png", 32)
