"""Any picture that a scanner or an export makes, opened in one place.

Pillow opens only the formats below, whatever a file is called: no PostScript (which starts
Ghostscript), no plug-in that runs a program. Nothing larger than the caller's bound is decoded.
"""

# Why: docs/adr/0021-files-of-others.md

from __future__ import annotations

import io
import re
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageFile, ImageOps, TiffImagePlugin, UnidentifiedImageError
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    COMPRESSION,
    EXTRASAMPLES,
    IMAGEDESCRIPTION,
    PHOTOMETRIC_INTERPRETATION,
    PLANAR_CONFIGURATION,
    SAMPLEFORMAT,
    SAMPLESPERPIXEL,
)

from model.file_kinds import file_kind, first_bytes
from model.jpeg2000 import is_lossless
from model.tiff_faults import tiff_faults
from model.transfers import WITHOUT_CHECKSUM, transfer_fault

# Pillow warns of sizes and tags; what we make of them is said as a reason.
warnings.filterwarnings("ignore", module=r"PIL\.")

FORMATS: Final = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "JPEG2000")
SIXTEEN_BIT: Final = ("I;16", "I;16L", "I;16B", "I;16N", "I")

# What Pillow's decoders are known to raise on damaged files.
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    ArithmeticError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
_BROKEN: Final = "damaged image, or cut short; copy it again, or export it again"
_STACK: Final = "a stack of pages of one size: export the one you need"
_SUBFILE_TYPE, _OLD_SUBFILE_TYPE, _ZEISS = 254, 255, 34412  # tags; of the first, bit 0 is meant
_IMAGEJ_STACK: Final = re.compile(r"ImageJ=.*^images=(?!1\s)", re.DOTALL | re.MULTILINE)
_TIFF: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PHOTOGRAPHS: Final = ("JPEG", "MPO", "JPEG2000", "WEBP")
# Of a TIFF's inside: JPEG (old, new), Aperio's and others' JPEG 2000, WebP.
_PHOTOGRAPHIC: Final = (6, 7, 33003, 33004, 33005, 34712, 50001)
# A tile whose brightest 16-bit value is below this is one of 8 to 14 bits: near black.
_DIM: Final = 1 << 14


class UnreadablePicture(Exception):
    """Why a picture cannot be used; names no file."""


@contextmanager
def open_picture(
    source: Path | bytes, *, most: int, formats: tuple[str, ...] = FORMATS
) -> Iterator[Image.Image]:
    """The picture, of at most `most` pixels, which are decoded inside the block.

    Raises `UnreadablePicture`, also for faults that show only when decoding inside the block.
    """
    before = tiff_faults()
    try:
        with Image.open(
            io.BytesIO(source) if isinstance(source, bytes) else source, formats=formats
        ) as image:
            _check_pixels(image.size, most)
            if image.format in WITHOUT_CHECKSUM and (fault := transfer_fault(_bytes_of(image))):
                raise UnreadablePicture(fault)
            yield image
        if tiff_faults() != before:
            raise UnreadablePicture(_BROKEN)
    except UnidentifiedImageError:
        raise UnreadablePicture(_unknown(first_bytes(source), formats)) from None
    except _DAMAGED as error:
        if isinstance(error, OSError) and error.strerror is not None:
            raise UnreadablePicture(f"it cannot be read: {error.strerror}") from None
        if isinstance(error, Image.DecompressionBombError):
            words = "far more pixels than a tile has; cut it into tiles first"
            raise UnreadablePicture(words) from None
        raise UnreadablePicture(_BROKEN) from None


def check_single(image: Image.Image) -> None:
    """Raise `UnreadablePicture` for a TIFF that is a stack, or a whole slide.

    A stack has a second page of the same size.

    Smaller pages (a thumbnail, a pyramid's levels) do not count. Nor is the first page taken where
    it is itself the preview of a larger one. The first page stays the open one.
    """
    if image.format != "TIFF":
        return
    tags = _tags(image)
    if tags.get(_SUBFILE_TYPE, 0) & 1 or tags.get(_OLD_SUBFILE_TYPE) == 2:  # as of raw files
        raise UnreadablePicture(
            "its first page is a small preview, as in a camera's raw file: export the picture"
        )
    if _ZEISS in tags:
        raise UnreadablePicture("a file of a Zeiss microscope (.lsm): export the picture as PNG")
    said = str(tags.get(IMAGEDESCRIPTION, ""))
    if said.startswith("Aperio"):
        raise UnreadablePicture("a whole slide, not a tile: craftsfl site tile cuts it into tiles")
    if _IMAGEJ_STACK.match(said):  # of a large one, ImageJ writes the first page's tags alone
        raise UnreadablePicture(_STACK)
    size = image.size
    try:
        image.seek(1)  # not `n_frames`, which reads the whole chain of a file's directories
    except EOFError:
        return
    second = image.size
    image.seek(0)
    if second == size:
        raise UnreadablePicture(_STACK)
    if second[0] > size[0] and second[1] > size[1]:
        raise UnreadablePicture("its first page is a small preview: export the page you need")


def to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB, upright: alpha over white (an empty slide is white), 16-bit grey divided by 257.

    Only the first of several frames counts. Raises `UnreadablePicture` for stacks, for pixels
    without an agreed range, and for 16-bit ones that hold fewer bits.
    """
    check_single(image)
    _check_greys(image)
    narrow = _is_deep_colour(image)
    upright = ImageOps.exif_transpose(image)
    if upright.mode in SIXTEEN_BIT:
        return Image.fromarray(_eight_bit(np.asarray(upright))).convert("RGB")
    if upright.mode == "F":
        raise UnreadablePicture("floating-point pixels have no agreed range; export 8 or 16 bit")
    if narrow:
        _check_bright(int(np.asarray(upright.convert("RGB")).max()) * 257)
    if upright.has_transparency_data:
        shown = upright.convert("RGBA")
        _check_shown(shown, gone=EXTRASAMPLES in _tags(image))
        white = Image.new("RGBA", upright.size, "white")
        return Image.alpha_composite(white, shown).convert("RGB")
    return upright.convert("RGB")


def _check_shown(image: Image.Image, *, gone: bool) -> None:
    """Raise `UnreadablePicture` for a picture that is there, and all of it transparent.

    With `gone`, what is beneath may have been lost when its transparency was undone.
    """
    pixels = np.asarray(image)
    if not pixels[..., 3].any() and (gone or (pixels[..., :3] != pixels[0, 0, :3]).any()):
        raise UnreadablePicture(
            "every pixel is transparent, and there is a picture beneath; export it without "
            "transparency"
        )


def check_labels(image: Image.Image) -> None:
    """Raise `UnreadablePicture` where the numbers are not those that were labelled.

    A format for photographs changes them, JPEG 2000 unless it is shown that it did not; of some
    TIFFs, Pillow hands over other ones. May decode the picture.
    """
    tags = _tags(image)
    if image.format == "JPEG2000" and _has_kept_all(image):
        return
    if image.format in _PHOTOGRAPHS or tags.get(COMPRESSION) in _PHOTOGRAPHIC:
        raise UnreadablePicture(
            "a photograph's format (JPEG, JPEG 2000, WebP) changes labels; export the mask as PNG, "
            "from the program that made it"
        )
    if 2 in tags.get(SAMPLEFORMAT, ()) and max(tags.get(BITSPERSAMPLE, (1,))) <= 8:
        raise UnreadablePicture("signed labels of 8 bit; export them unsigned")
    if tags.get(PHOTOMETRIC_INTERPRETATION) == 0:
        raise UnreadablePicture("labels in which zero is white; export them with zero as black")


def is_turned(image: Image.Image) -> bool:
    """Whether a note in the file (EXIF, or a TIFF's tag) turns or mirrors the stored pixels."""
    return image.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9)


def _has_kept_all(image: Image.Image) -> bool:
    data = _bytes_of(image)
    image.load()
    return is_lossless(data, image)


def _bytes_of(image: Image.Image) -> bytes:
    """All of the file of a picture that is not decoded yet."""
    file = image.fp if isinstance(image, ImageFile.ImageFile) else None
    if file is None:
        return b""
    at = file.tell()
    file.seek(0)
    data = file.read()
    file.seek(at)
    return data


def _tags(image: Image.Image) -> Mapping[int, Any]:
    return image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}


def _check_greys(image: Image.Image) -> None:
    """Raise for TIFFs whose greys Pillow hands over without what their tags say of them."""
    tags = _tags(image)
    deepest = max(tags.get(BITSPERSAMPLE, (1,)))
    if 2 in tags.get(SAMPLEFORMAT, ()) and deepest <= 16:
        raise UnreadablePicture(
            "signed pixel values have no agreed black and white; export unsigned 8 or 16 bit"
        )
    if tags.get(SAMPLESPERPIXEL) == 2 and not {1, 2}.intersection(tags.get(EXTRASAMPLES, ())):
        raise UnreadablePicture(
            "two channels of which none is transparency; export the picture as RGB"
        )
    separate = tags.get(PLANAR_CONFIGURATION) == 2 and tags.get(SAMPLESPERPIXEL, 1) > 1
    if separate and deepest > 8:  # Pillow takes each plane's pairs of bytes for two pixels
        raise UnreadablePicture(
            "16-bit colours that are stored one plane after the other; export 8 bit, or the "
            "colours of each pixel together (interleaved)"
        )
    if tags.get(PHOTOMETRIC_INTERPRETATION) == 0 and deepest == 16:
        raise UnreadablePicture(
            "16-bit greys in which zero is white; export them with zero as black"
        )


def _check_pixels(size: tuple[int, int], most: int) -> None:
    width, height = size
    if width * height > most:
        raise UnreadablePicture(f"{width}x{height} pixels: not a tile; cut it into tiles first")


def _eight_bit(values: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    wide = values.astype(np.int64)
    if wide.min() < 0 or wide.max() > 0xFFFF:
        raise UnreadablePicture("grey values outside the 16-bit range; export 8 or 16 bit")
    _check_bright(int(wide.max()))
    return ((wide + 128) // 257).astype(np.uint8)


def _check_bright(highest: int) -> None:
    if highest < _DIM:
        raise UnreadablePicture(
            f"16-bit pixels that reach only {highest} of 65535, as from a camera with fewer bits: "
            "export 8 bit, or scale them to the whole range"
        )


def _is_deep_colour(image: Image.Image) -> bool:
    """Whether decoding cuts 16-bit colours to 8; call it before decoding."""
    parts = image.tile if isinstance(image, ImageFile.ImageFile) else []
    raw = [part.args[0] if isinstance(part.args, tuple) else part.args for part in parts]
    return any(isinstance(mode, str) and ";16" in mode for mode in raw)


def _unknown(start: bytes, formats: tuple[str, ...]) -> str:
    """What to do about a file that Pillow does not recognise, by its first bytes."""
    words = f"not an image of a known format ({', '.join(formats)})"
    if not start:
        return f"{words}: the file is empty"
    if start.startswith(_TIFF) and "TIFF" in formats:
        return (
            f"{words}: a rare kind of TIFF (64-bit or floating-point colours, more channels than "
            "colours, or a microscope vendor's codec); export it again as 8- or 16-bit TIFF or PNG"
        )
    kind = file_kind(start)
    if kind == "a JPEG picture":
        kind = "a rare kind of JPEG (12 bits, lossless), or a damaged one"
    elif kind in ("a PNG picture", "a JPEG 2000 picture"):
        return f"{words}: {kind} that was damaged, as by a transfer as text; copy it again"
    if "git-lfs" in kind or "encrypted" in kind or "web page" in kind:
        return f"{words}: {kind}"
    return f"{words}{kind and f': {kind}'}; export it as PNG or TIFF"
