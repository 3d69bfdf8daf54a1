"""A damaged TIFF is a reason of ours: libtiff writes nothing, and fills in nothing unseen."""

from __future__ import annotations

import io
import threading

import numpy as np
import pytest
from PIL import Image

from model.pictures import UnreadablePicture, open_picture
from model.tiff_faults import tiff_faults

_NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8))
# Pillow puts the pixels behind the first 8 bytes; these lie in the middle of them.
_MIDDLE = slice(400, 408)


def _decode(data: bytes) -> Image.Image:
    with open_picture(data, most=64 * 64) as image:
        return image.convert("L")


def _packed(compression: str, *, damaged: bool = False) -> bytes:
    file = io.BytesIO()
    fax = compression.startswith("group")
    (_NOISE.convert("1") if fax else _NOISE).save(file, "TIFF", compression=compression)
    data = bytearray(file.getvalue())
    if damaged:
        data[_MIDDLE] = b"\xa5\0" * 4
    return bytes(data)


@pytest.mark.parametrize("compression", ["tiff_adobe_deflate", "group3", "group4"])
def test_a_damaged_tiff_is_refused_in_our_words_alone(
    capfd: pytest.CaptureFixture[str], compression: str
) -> None:
    whole = _decode(_packed(compression))
    assert whole.size == (64, 64)
    with pytest.raises(UnreadablePicture, match="damaged image"):
        _decode(_packed(compression, damaged=True))
    assert capfd.readouterr() == ("", "")


def test_one_threads_damage_is_not_anothers() -> None:
    faults: list[int] = []

    def other() -> None:
        with pytest.raises(UnreadablePicture):
            _decode(_packed("group4", damaged=True))
        faults.append(tiff_faults())

    with open_picture(_packed("group4"), most=64 * 64) as image:
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        image.load()
    assert faults[0] > 0
