"""Webdataset shards with random access: tar files of `key.jpg` with `key.txt` or `key.json`.

One pass over the headers finds where every member is; after that a picture is one read. So the
order is a true shuffle of everything, and a killed run continues at exactly the right picture,
which a stream of shards cannot do. The naming convention is webdataset's own.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from model.lab.stage_one.pictures import Unusable
from model.lab.stage_one.publicness import check_columns, check_place
from model.lab.stage_one.texts import Texts
from privacy.errors import ModelError

PICTURES: Final = ("jpg", "jpeg", "png", "webp", "tif", "tiff", "bmp", "jp2", "ppm")
_TEXTS: Final = ("txt", "caption")
_MOST_TEXT: Final = 1 << 20
_HINT: Final = "Shards are tar files on a local disk: x.tar, or x-{000..010}.tar for eleven."


class _Span(NamedTuple):
    start: int
    size: int


class _Sample(NamedTuple):
    key: str
    picture: _Span
    caption: _Span
    is_json: bool


class Shard:
    """One tar file: `places` int64 [n, 5] of picture start and size, caption start, size, JSON."""

    def __init__(self, path: Path, caption: str, samples: list[_Sample]) -> None:
        self.path, self._key = path, caption
        rows = [(*one.picture, *one.caption, one.is_json) for one in samples]
        self._places: npt.NDArray[np.int64] = np.array(rows, np.int64).reshape(-1, 5)
        self._names = Texts.of(one.key for one in samples)

    def __len__(self) -> int:
        return len(self._places)

    def picture(self, index: int) -> bytes:
        """The member's bytes."""
        return _read(self.path, _Span(*self._places[index, :2].tolist()))

    def caption(self, index: int) -> str:
        """The text that belongs to the picture, or the JSON's entry of that key."""
        start, size, is_json = self._places[index, 2:].tolist()
        if size > _MOST_TEXT:
            raise Unusable("the caption is longer than a mebibyte")
        content = _read(self.path, _Span(start, size))
        try:
            value = json.loads(content).get(self._key) if is_json else content.decode("utf-8")
        except (ValueError, AttributeError, RecursionError):
            raise Unusable("the caption cannot be read") from None
        text = " ".join(value.split()) if isinstance(value, str) else ""
        if not text:
            raise Unusable("the caption is missing")
        return text

    def name(self, index: int) -> str:
        """Shard and key."""
        return f"{self.path.name}/{self._names[index]}"

    def fingerprint(self) -> bytes:
        """Hash of the members' names and places."""
        parts = (self._names.ends, self._names.content, self._places)
        return hashlib.sha256(b"shard\0" + b"".join(part.tobytes() for part in parts)).digest()


def expand(pattern: str) -> list[Path]:
    """The tar files that a brace pattern names. Raises `ModelError` for a missing one."""
    if "://" in pattern or pattern.startswith("pipe:"):
        raise ModelError(f"{pattern} is not a file here.", f"Download the shards first. {_HINT}")
    if not pattern.endswith(".tar"):
        if not Path(pattern).exists():
            raise ModelError(f"{pattern} does not exist.", "Check the path.")
        raise ModelError(f"{pattern} is neither a folder nor a .tar shard.", _HINT)
    from webdataset.shardlists import expand_urls  # takes a second to import

    paths = [Path(name) for name in expand_urls(pattern)]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise ModelError(
            f"{len(missing)} of {len(paths)} shards are missing, first {missing[0]}.",
            "Correct the pattern, or download them again.",
        )
    return paths


def open_shard(path: Path, caption: str, *, public: bool) -> Shard:
    """Index one tar file. Raises `ModelError` if it is damaged or holds no caption."""
    check_place(path, public=public)
    try:
        with tarfile.open(path, "r:") as tar:
            groups = list(_groups(tar))
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ModelError(f"{path} is not an uncompressed tar: {error}.", _HINT) from None
    if not public:
        _check_public(path, [members["json"] for _, members in groups if "json" in members])
    samples = [one for key, members in groups if (one := _sample(key, members))]
    pictures = sum(any(kind in members for kind in PICTURES) for _, members in groups)
    if pictures and not samples:
        raise ModelError(
            f"{path}: none of {pictures} pictures has a caption.",
            "key.jpg needs key.txt, or key.json with the caption under the name in `caption`.",
        )
    return Shard(path.resolve(), caption, samples)


def _groups(tar: tarfile.TarFile) -> Iterator[tuple[str, dict[str, _Span]]]:
    """Members of one key, which are stored together, by their lower-case suffix."""
    from webdataset.tariterators import base_plus_ext

    key, members = "", dict[str, _Span]()
    for member in tar:
        tar.members = []  # type: ignore[attr-defined]  # it would keep every header
        base, ending = base_plus_ext(member.name)
        if not member.isreg() or base is None:
            continue
        if base != key and members:
            yield key, members
            members = {}
        key = base
        members[ending.lower()] = _Span(member.offset_data, member.size)
    if members:
        yield key, members


def _sample(key: str, members: dict[str, _Span]) -> _Sample | None:
    picture = next((members[kind] for kind in PICTURES if kind in members), None)
    text = next((members[kind] for kind in _TEXTS if kind in members), None)
    if picture is None or (text is None and "json" not in members):
        return None
    return _Sample(key, picture, text or members["json"], text is None)


def _check_public(path: Path, described: list[_Span]) -> None:
    """Treat the first sample's JSON like the columns of a table."""
    for span in described[:1]:
        try:
            record = json.loads(_read(path, span))
        except (ValueError, RecursionError, Unusable):
            continue  # reading its caption will report it
        if isinstance(record, dict):
            check_columns(map(str, record), path, public=False)


def _read(path: Path, span: _Span) -> bytes:
    with path.open("rb", buffering=0) as file:
        file.seek(span.start)
        content = file.read(span.size)
    if len(content) != span.size:
        raise Unusable("the shard ends early")
    return content
