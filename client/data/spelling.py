"""A file whose name the table writes differently: as Windows does, in another case or Unicode form.

Only asked for a name that no file has. Where several files may be meant, none is taken: the picture
of another patient would be worse than no picture.
"""

# Why: docs/adr/0054-tables-as-hospitals-write-them.md

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from html import unescape
from itertools import islice
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from client.data.encodings import western

_ELSEWHERE: Final = re.compile(
    r"[a-z]:[\\/]|\\\\|~[^\\/]*[\\/]|[a-z][a-z0-9+.-]*://|file:|\$|%[a-z]+%[\\/]", re.IGNORECASE
)
# What may be a file's name in a formula, a list, a link, with quotes around it.
_NAMES: Final = re.compile(r"[^\s\"'\u2018-\u201e<>\[\](){}|*?=,;&#!\\/]+")

_MISSING: Final = "the file is missing"
_WAYS: Final = (str, unquote, unescape)  # as it is; as in a URL; as in HTML
_FOLDERS: Final = 100  # so many are looked into for a file that is not where the table says


@dataclass(frozen=True, slots=True)
class Spelling:
    """The names in the folders that were asked about; each folder is listed once."""

    _listed: dict[Path, dict[str, list[str]]] = field(default_factory=dict, repr=False)

    def find(self, root: Path, name: str) -> Path:
        """The path below `root` that `name` means; raises `LookupError` with the reason.

        Case, Unicode form and invisible signs do not count, and a backslash may stand for a slash.
        The caller checks where links lead.
        """
        if _ELSEWHERE.match(name):
            raise LookupError(
                "a path of another computer; write it as it is seen from the data folder"
            )
        parts = [part for part in re.split(r"[\\/]", name) if part not in ("", ".")]
        found = root
        for number, part in enumerate(parts, start=1):
            if part == ".." or not found.resolve().is_relative_to(root):
                raise LookupError(_MISSING)
            own = self._one(found, part, last=number == len(parts))
            if not own:
                where = self._where(root, parts[-1]) or self._within(root, name)
                raise LookupError(_MISSING + where)
            found /= own
        return found

    def _one(self, folder: Path, part: str, *, last: bool) -> str:
        """The one name in `folder` that may be `part`; "" for none."""
        if (folder / part).exists():
            return part
        names = self._names(folder)
        meant = next(filter(None, (names.get(_folded(way(part))) for way in _WAYS)), [])
        if len(meant) > 1:
            raise LookupError(
                "several files differ from the name in the table only in case or Unicode form; "
                "write it exactly"
            )
        stem = Path(_folded(part)).stem
        if last and not meant and stem and any(Path(other).stem == stem for other in names):
            raise LookupError(f"{_MISSING}; there is one with another ending")
        return meant[0] if meant else ""

    def _where(self, root: Path, part: str) -> str:
        """Where a file of that name is instead, as a clause; "" where it is nowhere near."""
        if _folded(part) in self._names(root):
            return "; there is one in the data folder itself: write its name alone"
        folders = (root / name for names in self._names(root).values() for name in names)
        for folder in islice((path for path in folders if path.is_dir()), _FOLDERS):
            if _folded(part) in self._names(folder):
                return "; there is one in a folder of the data folder: write that before its name"
        return ""

    def _within(self, root: Path, name: str) -> str:
        """Whether `name` holds more than a file's name, as a clause; "" for no."""
        known = self._names(root)
        if any(_folded(found.rstrip(".")) in known for found in _NAMES.findall(name)):
            return (
                "; one of its name is there: write that alone, without quotes, brackets, a "
                "formula, or what else stands around it"
            )
        return ""

    def _names(self, folder: Path) -> dict[str, list[str]]:
        if folder not in self._listed:
            names: dict[str, list[str]] = {}
            for name in sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []:
                names.setdefault(_folded(name), []).append(name)
            self._listed[folder] = names
        return self._listed[folder]


def _folded(name: str) -> str:
    text = unicodedata.normalize("NFC", western(name)).casefold()
    shown = "".join(c for c in text if unicodedata.category(c) != "Cf")
    return unicodedata.normalize("NFC", shown).strip()
