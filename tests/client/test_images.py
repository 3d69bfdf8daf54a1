from __future__ import annotations

import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from client.data import read_tile, read_tile_mask
from privacy.errors import DataError

from .pictures import noise

ROOT = Path(__file__).parents[2]
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


def _bomb(path: Path, side: int = 100_000) -> None:
    """A little file whose header promises 10 gigapixels."""
    noise().save(path, "PNG")
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">II", side, side)
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


def _planes(path: Path, bits: int) -> None:
    factor = 257 if bits == 16 else 1
    planes = np.moveaxis(np.asarray(noise()), 2, 0).astype(f"u{bits // 8}") * factor
    tifffile.imwrite(path, planes, photometric="rgb", planarconfig="separate")


def test_colours_stored_plane_by_plane_are_read_rightly_or_not_at_all(tmp_path: Path) -> None:
    _planes(tmp_path / "8.tif", 8)
    assert np.array_equal(read_tile(tmp_path / "8.tif", 32), np.asarray(noise()))
    _planes(tmp_path / "16.tif", 16)  # Pillow takes each plane's pairs of bytes for two pixels
    with pytest.raises(DataError, match="one plane after the other; export 8 bit"):
        read_tile(tmp_path / "16.tif", 32)


def test_a_transparency_that_has_eaten_the_picture_is_refused(tmp_path: Path) -> None:
    pixels = np.dstack([np.asarray(noise()), np.zeros((32, 32), np.uint8)])
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=["assocalpha"])
    with pytest.raises(DataError, match="export it without transparency"):
        read_tile(tmp_path / "a.tif", 32)


def _five_channels(path: Path) -> None:
    pixels = np.ones((32, 32, 5), np.uint8)
    tifffile.imwrite(path, pixels, photometric="minisblack", planarconfig="contig")


def _raw_file(path: Path) -> None:
    """A camera's: the first page is small, and the picture is a page below it (DNG, NEF, ARW)."""
    with tifffile.TiffWriter(path) as file:
        file.write(np.asarray(noise()), photometric="rgb", subfiletype=1, subifds=1)
        file.write(np.asarray(noise(64, 64)), photometric="rgb")


def _microscope_file(path: Path) -> None:
    tags = [(34412, 1, 8, bytes(8), True)]
    tifffile.imwrite(path, np.asarray(noise()), photometric="rgb", extratags=tags)


def _float_colours(path: Path) -> None:
    tifffile.imwrite(path, np.ones((32, 32, 3), np.float32), photometric="rgb")


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (lambda p: noise().save(p, "PCX"), "not an image of a known format.*; export it as PNG"),
        (lambda p: noise().save(p, "ICO"), "not an image of a known format.*; export it as PNG"),
        (lambda p: noise().save(p, "AVIF"), "an AVIF picture; export it as PNG or TIFF"),
        (_five_channels, "more channels than colours"),
        (_float_colours, "floating-point colours"),
        (lambda p: tifffile.imwrite(p, np.ones((32, 32), np.int16)), "no agreed black and white"),
        (_raw_file, "preview, as in a camera's raw file"),
        (_microscope_file, "a Zeiss microscope"),
        (lambda p: Image.new("RGB", (1, 60_000)).save(p, "PNG"), "smaller than 16x16"),
    ],
)
def test_more_pictures_that_say_how_to_export_them(
    tmp_path: Path, write: Save, reason: str
) -> None:
    write(tmp_path / "picture")
    with pytest.raises(DataError, match=reason):
        read_tile(tmp_path / "picture", 32)


def test_a_library_warns_nobody_of_a_picture(tmp_path: Path) -> None:
    _bomb(tmp_path / "large.png", 12_000)
    code = "import client.data as d, pathlib as p; d.read_tile(p.Path('large.png'), 9)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert "cut it into tiles first" in done.stderr
    assert "Warning" not in done.stderr


def _label_picture(kind: type[np.generic]) -> np.ndarray:
    labels = np.zeros((64, 48), kind)
    labels[3:20, 5:30] = 1
    labels[30:60, 10:40] = 200 if kind is np.uint8 else 40_000
    return labels


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("options", [{}, {"no_jp2": True}, {"num_resolutions": 3}])
def test_masks_in_jpeg_2000_are_read_where_nothing_was_lost(
    tmp_path: Path, kind: type[np.generic], options: dict[str, Any]
) -> None:
    labels = _label_picture(kind)
    Image.fromarray(labels).save(tmp_path / "mask.jp2", "JPEG2000", **options)
    found = read_tile_mask(tmp_path / "mask.jp2", 48)
    assert np.array_equal(found, labels[8:56])


@pytest.mark.parametrize(
    "options",
    [
        {"irreversible": True},
        {"quality_mode": "rates", "quality_layers": [12]},  # of the wavelet that can be undone
        {"quality_mode": "dB", "quality_layers": [30]},
        {"quality_mode": "dB", "quality_layers": [60]},
    ],
)
def test_masks_in_jpeg_2000_that_lost_bits_are_refused(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    rough = (np.asarray(noise(64, 64))[..., 0] // 8).astype(np.uint8)
    Image.fromarray(rough).save(tmp_path / "mask.jp2", "JPEG2000", **options)
    with pytest.raises(DataError, match="changes labels; export the mask as PNG"):
        read_tile_mask(tmp_path / "mask.jp2", 64)


def test_a_damaged_jpeg_2000_mask_is_refused_in_words(tmp_path: Path) -> None:
    Image.fromarray(_label_picture(np.uint8)).save(tmp_path / "mask.jp2", "JPEG2000")
    whole = (tmp_path / "mask.jp2").read_bytes()
    for end in (30, 90, 150, len(whole) - 20):
        (tmp_path / "mask.jp2").write_bytes(whole[:end])
        with pytest.raises(DataError, match=r"damaged|known format|changes labels"):
            read_tile_mask(tmp_path / "mask.jp2", 48)


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
