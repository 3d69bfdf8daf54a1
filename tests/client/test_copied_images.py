"""Pictures that a copy has spoilt without a sign, and masks of pictures that are stored turned."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from client.data import load_site_data, read_tile_mask
from client.data.images import tile_size
from privacy.errors import DataError

from .pictures import noise

_LABELS = np.kron(np.arange(16, dtype=np.uint8).reshape(4, 4), np.ones((8, 8), np.uint8))


def saved(kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    noise(128, 128).save(file, kind, **options)
    return file.getvalue()


def turned() -> Image.Exif:
    note = Image.Exif()
    note[0x112] = 6
    return note


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "BMP"])
def test_a_transfer_as_text_is_no_picture(kind: str) -> None:
    whole = saved(kind)
    assert tile_size(whole) == (128, 128)
    with pytest.raises(DataError, match=r"damaged (by a transfer as text|image)"):
        tile_size(whole.replace(b"\n", b"\r\n"))


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_nor_is_a_copy_that_ends_in_zeros(kind: str) -> None:
    whole = saved(kind)
    with pytest.raises(DataError, match="nothing but zeros, as of a file that was not copied"):
        tile_size(whole[: len(whole) // 2].ljust(len(whole), b"\0"))
    assert tile_size(whole + bytes(512)) == (128, 128)  # padded behind its end


def test_blank_pictures_of_long_zero_runs_are_whole() -> None:
    file = io.BytesIO()
    Image.new("RGB", (512, 512), "white").save(file, "JPEG", optimize=True)
    assert tile_size(file.getvalue()) == (512, 512)


def test_a_large_stack_of_imagej_is_told_by_its_words(tmp_path: Path) -> None:
    said = "ImageJ=1.53\nimages=%d\nslices=%d\n"
    for pages, words in ((5, "a stack of pages"), (1, None)):
        path = tmp_path / f"{pages}.tif"
        tifffile.imwrite(path, _LABELS, description=said % (pages, pages), metadata=None)
        if words is None:
            assert tile_size(path) == (32, 32)
        else:
            with pytest.raises(DataError, match=words):
                tile_size(path)


def test_a_mask_is_turned_as_its_file_says(tmp_path: Path) -> None:
    Image.fromarray(_LABELS).save(tmp_path / "mask.png", exif=turned())
    assert np.array_equal(read_tile_mask(tmp_path / "mask.png", 32), np.rot90(_LABELS, -1))


@pytest.mark.parametrize("mask_too", [False, True])
def test_a_mask_beside_a_turned_tile_has_to_be_turned_too(tmp_path: Path, mask_too: bool) -> None:
    noise().save(tmp_path / "tile.jpg", exif=turned())
    options = {"exif": turned()} if mask_too else {}
    Image.fromarray(_LABELS).save(tmp_path / "mask.png", **options)
    (tmp_path / "metadata.csv").write_text(
        "file_name,text,patient_id,mask\ntile.jpg,glands,P,mask.png\n"
    )
    data = load_site_data(tmp_path)
    assert [tile.mask is not None for tile in data.tiles] == [mask_too]
    assert ["turned by a note" in entry.reason for entry in data.quarantined] == [True] * (
        not mask_too
    )
