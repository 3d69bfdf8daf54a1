"""What a file is, by its first bytes: so that whoever named the wrong one reads what it is.

Nothing is opened by this knowledge. A file that can be read here is recognised by its reader alone.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

KIND_BYTES: Final = 512  # so many of a file's first bytes tell its kind

# Where the bytes stand, the bytes, and what they mean. The first that fits.
_KINDS: Final[tuple[tuple[int, bytes, str], ...]] = (
    (0, b"version https://git-lfs", "a git-lfs pointer; fetch the file itself (git lfs pull)"),
    (128, b"DICM", "a DICOM file"),
    (4, b"ftyphei", "a HEIC picture, as telephones take them"),
    (4, b"ftyphev", "a HEIC picture, as telephones take them"),
    (4, b"ftypmif1", "a HEIC picture, as telephones take them"),
    (4, b"ftypavi", "an AVIF picture"),
    (4, b"ftyp", "a video"),
    (0, b"GIF8", "a GIF picture"),
    (0, b"\x89PNG", "a PNG picture"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"\xff\x0a", "a JPEG XL picture"),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL picture"),
    (0, b"\0\0\0\x0cjP", "a JPEG 2000 picture"),
    (0, b"II\xbc\x01", "a JPEG XR picture"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"gimp xcf", "a file of GIMP"),
    (0, b"v/1\x01", "an OpenEXR picture"),
    (0, b"%PDF", "a PDF document"),
    (0, b"%!PS", "a PostScript document"),
    (0, b"\xc5\xd0\xd3\xc6", "a PostScript document"),
    (0, b"{\\rtf", "a text document (RTF)"),
    (0, b"ZISRAWFILE", "a file of a Zeiss microscope (.czi)"),
    (0, b"\xda\xce\xbe\x0a", "a file of a Nikon microscope (.nd2)"),
    (0, b"Iout", "outlines of ImageJ (.roi)"),
    (0, b"\x89HDF", "an HDF5 file (.h5, .hdf5, .mat)"),
    (0, b"MATLAB ", "a MATLAB file (.mat)"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"PAR1", "a parquet file"),
    (0, b"ARROW1", "an Arrow or Feather file"),
    (0, b"SQLite format 3", "a SQLite database"),
    (0, b"\xd0\xcf\x11\xe0", "an old Office document (.xls, .doc), or Windows' Thumbs.db"),
    (0, b"PK\x03\x04", "a zip archive, as Office documents (.xlsx) are too"),
    (0, b"\x1f\x8b", "packed with gzip"),
    (0, b"BZh", "packed with bzip2"),
    (0, b"\xfd7zXZ", "packed with xz"),
    (0, b"\x28\xb5\x2f\xfd", "packed with zstd"),
    (0, b"7z\xbc\xaf", "a 7-Zip archive"),
    (0, b"Rar!", "a RAR archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"GGUF", "a GGUF file"),
    (0, b"\0\x05\x16\x07", "macOS' companion of a file (._NAME), without the file itself"),
    (0, b"L\0\0\0\x01\x14\x02", "a shortcut of Windows, not the file that it leads to"),
    (0, b"Salted__", "encrypted"),
    (0, b"age-encryption.org", "encrypted"),
    (0, b"-----BEGIN PGP", "encrypted"),
    (0, b"MZ", "a program"),
    (0, b"\x7fELF", "a program"),
)
# Protocol 0 is text: an object, or a list or dictionary with its number in the memo.
_PICKLE: Final = re.compile(rb"\x80[\x02-\x05]|\(?c[a-z_][\w.]*\n\w+\n|\([dl]p\d+\n")
_ANYMAP: Final = re.compile(rb"P[1-7]\s")
_TEXTS: Final[tuple[tuple[re.Pattern[bytes], str], ...]] = (
    (re.compile(rb"<!doctype html|<html", re.IGNORECASE), "a web page, not a file that it offers"),
    (re.compile(rb"<svg|<\?xml[^>]*>\s*(?:<!--.*?-->\s*)*<svg", re.DOTALL), "an SVG drawing"),
    (re.compile(rb"<"), "an XML file, or an answer of a web server"),
    (re.compile(rb"data:image/"), "a picture as text (a data URL)"),
    (re.compile(rb"\{|\[\s*[{\[\"\d]"), "a JSON file"),
)
_TEXT: Final = re.compile(rb"[\t\n\r\x20-\x7e]+")


def first_bytes(source: Path | bytes) -> bytes:
    """As many as `file_kind` looks at; raises `OSError`."""
    if isinstance(source, bytes):
        return source[:KIND_BYTES]
    with source.open("rb") as file:
        return file.read(KIND_BYTES)


def file_kind(start: bytes) -> str:
    """What a file with these first bytes is, as "a DICOM file"; "" where nothing tells."""
    if not start:
        return "an empty file"
    if not start.strip(b"\0"):
        return "nothing but zeros, as of a file that was never copied to its end"
    for offset, mark, kind in _KINDS:
        if start[offset : offset + len(mark)] == mark:
            return kind
    if _PICKLE.match(start):
        return "a pickle, which could start a program"
    if _ANYMAP.match(start):
        return "a PNM picture (.ppm, .pgm, .pbm)"
    return _text_kind(start.removeprefix(b"\xef\xbb\xbf").lstrip())


def _text_kind(start: bytes) -> str:
    for pattern, kind in _TEXTS:
        if pattern.match(start):
            return kind if _TEXT.match(start[:32]) else ""
    return "a text file" if _TEXT.fullmatch(start) else ""
