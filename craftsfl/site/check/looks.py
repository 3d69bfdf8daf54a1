"""What a check sees of every picture, seen once: the tile's own checks, and a few figures.

A picture is read and decoded as the agent does it, so what is refused there is refused here, in the
same words. What was seen is kept in the state folder under a hash of path, size and times, so that
a second check only asks the file system. It is health data: mode 0600, and it goes when somebody
withdraws (`client.agent.withdrawals.purge`).
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, TiffImagePlugin

from client.data.files import TileFile, UnusableFile, tile_file
from client.data.images import decode_picture
from client.data.likeness import likeness_hash
from model.pictures import to_rgb
from privacy.files import read_private, write_private

_VERSION: Final = 2  # of what is seen: a later one looks again
_LARGEST: Final = 1 << 30  # bytes of the file
_SAMPLES_TAG: Final = 277  # SamplesPerPixel of TIFF
_COLOURS: Final = 3
_BRIGHTEST: Final = 0.99  # share of the pixels that are darker than what counts as the brightest


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of a picture that can be used; greys are 0 to 255."""

    digest: str  # SHA-256 of the bytes, in hex
    width: int
    height: int
    brightest: int  # grey that 99 % of the pixels stay below
    contrast: float  # standard deviation of the greys
    likeness: str  # `likeness_hash`, in hex
    ignored: str  # what is not used of it: "", or a text that names no file


@dataclass(slots=True)
class Looks:
    """The looks at the pictures of one folder, by path; `look` is for `load_site_data`.

    `file`: where they are kept; None where nothing is.
    """

    file: Path | None
    seen: dict[Path, Look] = field(default_factory=dict, repr=False)
    fresh: int = 0  # how many were really read
    _kept: dict[str, list[object]] = field(default_factory=dict, repr=False)
    _now: dict[str, list[object]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self._kept = {} if self.file is None else _read(self.file)

    def look(self, path: Path) -> TileFile:
        """The tile at `path`; raises `UnusableFile` as the agent's reading does."""
        name = _name(path)
        known = self._kept.get(name) or self._now.get(name)
        if known is None:
            self.fresh += 1
            known = _looked(path)
        self._now[name] = known
        if len(known) == 1:
            raise UnusableFile(str(known[0]))
        seen = Look(*known)  # type: ignore[arg-type]  # checked by `_is_sound`
        self.seen[path] = seen
        return TileFile(path, bytes.fromhex(seen.digest), (seen.width, seen.height))

    def keep(self) -> None:
        """Keep what was seen for the next check; raises `OSError`."""
        if self.file is not None and self.fresh:
            text = json.dumps({"version": _VERSION, "looks": self._now}, separators=(",", ":"))
            write_private(self.file, text.encode("ascii"))


def _looked(path: Path) -> list[object]:
    """The fields of a `Look`, or the one reason why there is none."""
    seen: list[object] = []

    def decode(data: bytes) -> tuple[int, int]:
        found = decode_picture(data, _figures)
        seen.extend(found[1:])
        return found[0]

    try:
        tile = tile_file(path, decode)
    except UnusableFile as fault:
        return [str(fault)]
    return [tile.digest.hex(), *tile.size, *seen]


def _figures(image: Image.Image) -> tuple[tuple[int, int], int, float, str, str]:
    ignored = _ignored(image)
    rgb = to_rgb(image)
    grey = rgb.convert("L")
    counts = np.asarray(grey.histogram(), dtype=np.float64)
    share = counts / counts.sum()
    greys = np.arange(256)
    mean = float((share * greys).sum())
    contrast = float(np.sqrt((share * (greys - mean) ** 2).sum()))
    brightest = int(np.searchsorted(share.cumsum(), _BRIGHTEST))
    return (
        (rgb.width, rgb.height),
        brightest,
        round(contrast, 2),
        likeness_hash(grey).hex(),
        ignored,
    )


def _ignored(image: Image.Image) -> str:
    """What of the picture is not trained on, in words that name no file."""
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    samples = int(tags.get(_SAMPLES_TAG, 1))
    if samples > _COLOURS and not image.has_transparency_data and image.mode != "CMYK":
        return f"{samples} channels, of which {_COLOURS} count"
    if image.format != "TIFF" and getattr(image, "n_frames", 1) > 1:
        return "several frames, of which the first counts"
    if image.has_transparency_data and min(image.convert("RGBA").getchannel("A").tobytes()) < 255:
        return "transparent parts, which count as white"
    return ""


def _name(path: Path) -> str:
    """Another one whenever the file may be another one. Names no file."""
    facts = path.stat()
    own = (str(path), facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
    return hashlib.blake2b(os.fsencode(repr(own)), digest_size=16).hexdigest()


def _read(file: Path) -> dict[str, list[object]]:
    """What was kept; nothing where there is no such file, or it is another version's."""
    try:
        found = json.loads(read_private(file, _LARGEST))
        if found["version"] != _VERSION:
            return {}
        return {name: look for name, look in found["looks"].items() if _is_sound(look)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # it only saves time


_TYPES: Final = tuple(type(value) for value in astuple(Look("", 0, 0, 0, 0.0, "", "")))


def _is_sound(look: object) -> bool:
    if not isinstance(look, list):
        return False
    kinds = tuple(map(type, look))
    return kinds in ((str,), _TYPES)
