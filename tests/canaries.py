"""Secrets planted in a hospital's data, and the search for them in everything that left it.

A secret is searched for as text in several encodings, as hex, as base64 at each of its three
alignments, and as the beginning of its common hashes, including short ids of eight hex digits; in
files also inside zip archives and SQLite databases, which scatter long values over pages.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import sqlite3
import string
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np

from client.data.metadata import patient_key

HASHES = ("md5", "sha1", "sha256", "sha512", "sha3_256", "blake2b", "blake2s")
PREFIX = 7  # bytes of a hash: found by chance at one place with probability 2^-56
SHORT = "short id by"  # eight hex digits of a hash, with no other hex digit next to them
SHORTEST = 6  # bytes of anything that is searched for
_WINDOW = 4  # bytes that mark places worth a closer look
_CHUNK = 1 << 22


@dataclass(frozen=True)
class Find:
    """A secret in one of its forms, and where it was found."""

    secret: str
    form: str
    where: str


def forms(secret: bytes) -> Iterator[tuple[str, bytes]]:
    """Every form in which `secret` is searched for, by name; case is ignored."""
    yield "plain", secret
    yield "repr of bytes", repr(secret)[2:-1].encode()
    yield "hex", secret.hex().encode()
    for shift in range(3):
        yield f"base64 at {shift}", _base64(secret, shift)
    for name in HASHES:
        digest = hashlib.new(name, secret).digest()[:PREFIX]
        yield name, digest
        yield f"hex of {name}", digest.hex().encode()
        yield f"{SHORT} {name}", digest.hex()[:8].encode()
        yield f"base64 of {name}", base64.b64encode(digest[:6])
    try:
        text = secret.decode()
    except UnicodeDecodeError:  # bytes of a picture
        return
    yield "utf-16", text.encode("utf-16-le")
    yield "json", json.dumps(text)[1:-1].encode()
    yield "url", quote(text).encode()
    yield "repr", ascii(text)[1:-1].encode()


def _base64(secret: bytes, shift: int) -> bytes:
    """The base64 of `secret` after `shift` other bytes, independent of what follows."""
    whole = base64.b64encode(bytes(shift) + secret)
    return whole[-(-8 * shift // 6) : 8 * (shift + len(secret)) // 6]


class Search:
    """Searches any amount of bytes for all `secrets` (texts, or bytes of files) at once."""

    def __init__(self, secrets: Iterable[str | bytes]) -> None:
        self._needles: dict[bytes, tuple[str, str]] = {}
        for secret in secrets:
            raw = secret.encode("utf-8", "surrogateescape") if isinstance(secret, str) else secret
            name = secret if isinstance(secret, str) else f"bytes {secret[:8].hex()}"
            for form, needle in forms(raw):
                if len(needle) >= SHORTEST:
                    self._needles.setdefault(needle.lower(), (name, form))
        self._starts: dict[bytes, list[bytes]] = defaultdict(list)
        for needle in self._needles:
            self._starts[needle[:_WINDOW]].append(needle)
        self._longest = max(map(len, self._needles), default=0)
        self._marked = np.zeros(1 << 22, dtype=bool)
        self._marked[_buckets(b"".join(self._starts), step=_WINDOW)] = True

    def bytes(self, data: bytes, where: str = "") -> list[Find]:
        """All secrets in `data`."""
        found = set()
        for start in range(0, len(data), _CHUNK):
            part = data[max(0, start - 1) : start + _CHUNK + self._longest].lower()
            if len(part) < _WINDOW:
                continue
            for place in np.flatnonzero(self._marked[_buckets(part)]).tolist():
                for needle in self._starts.get(part[place : place + _WINDOW], ()):
                    secret, form = self._needles[needle]
                    if part.startswith(needle, place) and (
                        not form.startswith(SHORT) or _alone(part, place, len(needle))
                    ):
                        found.add(Find(secret, form, where))
        return sorted(found, key=lambda find: (find.secret, find.form))

    def file(self, path: Path) -> list[Find]:
        """All secrets in a file's name and content."""
        where = str(path)
        found = self.bytes(path.name.encode("utf-8", "surrogateescape"), f"the name {where}")
        for data in _contents(path):
            found += self.bytes(data, where)
        return found

    def folder(self, folder: Path) -> tuple[int, list[Find]]:
        """The number of files below `folder`, and all secrets in them."""
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        return len(files), [find for path in files for find in self.file(path)]


def _alone(data: bytes, place: int, length: int) -> bool:
    """Whether there is no hex digit next to `data[place : place + length]`."""
    beside = data[max(0, place - 1) : place] + data[place + length : place + length + 1]
    return not any(chr(byte) in string.hexdigits for byte in beside)


def _buckets(data: bytes, step: int = 1) -> np.ndarray:
    """A 22-bit hash of every window of `data`, `step` bytes apart."""
    raw = np.frombuffer(data, np.uint8).astype(np.uint32)
    last = len(raw) - _WINDOW + 1
    value = sum(raw[shift : shift + last] << np.uint32(8 * shift) for shift in range(_WINDOW))
    return (np.asarray(value)[::step] * np.uint32(2654435761)) >> np.uint32(10)


def _contents(path: Path) -> Iterator[bytes]:
    """The file's bytes; then the unpacked content of a zip archive or a SQLite database."""
    data = path.read_bytes()
    yield data
    if data.startswith(b"PK\3\4"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name in archive.namelist():
                yield name.encode() + archive.read(name)
    if data.startswith(b"SQLite format 3\0"):
        yield from _values(path)


def _values(path: Path) -> Iterator[bytes]:
    database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            for row in database.execute(f'SELECT * FROM "{table}"'):
                for value in row:
                    yield value if isinstance(value, bytes) else str(value).encode()
    finally:
        database.close()


def word(*parts: object) -> str:
    """A word that occurs nowhere else; always the same for the same `parts`."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return "kanarie" + "".join(string.ascii_lowercase[value % 26] for value in digest[:10])


def plant(folder: Path) -> set[str | bytes]:
    """Rewrite an image folder's metadata.csv so that everything in it is a secret; returns them.

    Patients, slides, diagnoses, file names and captions become words of their own; captions are
    longer than any text encoder takes. A damaged picture, a missing one and a text file are added.
    """
    with (folder / "metadata.csv").open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        columns, rows = list(reader.fieldnames or ()), list(reader)
    secrets: set[str | bytes] = set()
    for number, row in enumerate(rows):
        old = folder / row["file_name"]
        secrets.add(old.read_bytes())
        secrets.add(old.read_bytes()[-200:-20])
        row.update(_disguised(row, folder.name, number))
        old.rename(folder / row["file_name"])
        secrets |= _secrets(row)
    for number, content in enumerate((b"\x89PNG\r\n\x1a\n" + b"damaged" * 9, b"no picture", None)):
        row = {**rows[0], "patient_id": word(folder.name, "lost", number)}
        row |= _disguised(row, folder.name, f"lost {number}")
        if content is not None:
            (folder / row["file_name"]).write_bytes(content)
        rows.append(row)
        secrets |= _secrets(row)
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, columns)
        table.writeheader()
        table.writerows(rows)
    return secrets


def _disguised(row: dict[str, str], *place: object) -> dict[str, str]:
    first, middle, last = (word("caption", part, *place) for part in range(3))
    values = {
        "file_name": str(Path(row["file_name"]).with_name(f"{word('file', *place)}-ä.png")),
        "patient_id": f"Märta {word('patient', place[0], row['patient_id'])}",
        "text": f"{first} {row['text'][:60]} {middle} {'tissue ' * 90} {last}",
        "slide_id": word("slide", place[0], row["patient_id"], row.get("slide_id")),
        "diagnosis": word("diagnosis", *place),
    }
    return {name: value for name, value in values.items() if name in row}


def _secrets(row: dict[str, str]) -> set[str | bytes]:
    """A row's values and each of their words; a patient's id also in the form that is compared."""
    names = [name for name in ("patient_id", "text", "slide_id", "diagnosis") if name in row]
    whole = {row[name] for name in names} | {row["file_name"], Path(row["file_name"]).name}
    words = {part for value in whole for part in value.split() if "kanarie" in part}
    return {*whole, *words, patient_key(row["patient_id"])}
