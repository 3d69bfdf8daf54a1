"""The folder of tiles that is being made: which slide is which, what is there, the table.

    OUT/metadata.csv              what training reads; made anew at the end of every run
    OUT/slides.csv                which slide is which name
    OUT/quarantine.csv            slides without tiles, and why
    OUT/contact-sheet-1.png       to be looked at
    OUT/NAME/COLUMN-ROW.png       the tiles
    OUT/.tiling/                  key, options and journals, for going on

NAME is a keyed pseudonym of the slide's file name: hospitals name slides after cases and people.
All of it is for its owner alone.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from client.data.imagefolder import Quarantined
from client.data.quarantine import write_for_people, write_quarantine
from client.patients.key import PatientKey, load_or_make_patient_key
from client.slides.journal import GridPlace, SlideJournal
from client.slides.listing import ListedSlide
from privacy.closing import Closing
from privacy.errors import ConfigError, CraftsflError
from privacy.files import lock, write_private

TABLE: Final = "metadata.csv"
_COLUMNS: Final = ("file_name", "text", "patient_id", "slide_id", "organ", "diagnosis")
_PRIVATE: Final = 0o700


class TilingFolder(Closing):
    """The folder `out`, made if absent; one process at a time. Raises `OSError` for its disk.

    Raises `ConfigError` where `out` holds something else, was begun with other `options`, or is in
    use.
    """

    def __init__(self, out: Path, options: Mapping[str, object]) -> None:
        self.out = out
        self._own = out / ".tiling"
        if out.exists() and not out.is_dir():
            raise ConfigError(f"{out} is a file.", "Give a new folder for the tiles.")
        if out.exists() and not self._own.is_dir() and any(out.iterdir()):
            raise ConfigError(f"{out} holds other files.", "Give a new folder for the tiles.")
        self._own.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
        out.chmod(_PRIVATE)
        try:
            self._lock = lock(self._own / "lock")
        except BlockingIOError:
            raise ConfigError(f"Another process cuts tiles into {out}.", "Let it end.") from None
        try:
            self._check_options(options)
            self._key: PatientKey = load_or_make_patient_key(self._own / "key")
        except CraftsflError:
            os.close(self._lock)
            raise

    def close(self) -> None:
        """Let another process in."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def name(self, slide: ListedSlide) -> str:
        """The slide's name in this folder."""
        return self._key.slide(slide.name)

    def journal(self, slide: ListedSlide) -> SlideJournal:
        """The slide's journal; tiles of a file that has changed since are removed."""
        name = self.name(slide)
        journal = SlideJournal(self._own / f"{name}.jsonl", slide.stamp())
        if journal.fresh:
            with suppress(FileNotFoundError):
                shutil.rmtree(self.out / name)
        (self.out / name).mkdir(mode=_PRIVATE, exist_ok=True)
        return journal

    def strip(self, slide: ListedSlide) -> Path:
        """The slide's part of the contact sheet."""
        return self._own / f"{self.name(slide)}.png"

    def tile(self, slide: ListedSlide, place: GridPlace) -> Path:
        """The file of a tile."""
        return self.out / self.name(slide) / f"{place[0]:04d}-{place[1]:04d}.png"

    def keep(self, slide: ListedSlide, place: GridPlace, png: bytes) -> str:
        """Write a tile; returns its SHA-256 (hex)."""
        write_private(self.tile(slide, place), png)
        return hashlib.sha256(png).hexdigest()

    def holds(self, slide: ListedSlide, place: GridPlace, sha256: str) -> bool:
        """Whether the tile is there as it was written."""
        try:
            return hashlib.sha256(self.tile(slide, place).read_bytes()).hexdigest() == sha256
        except OSError:
            return False

    def write_table(self, tiles: Iterable[tuple[ListedSlide, Iterable[GridPlace]]]) -> int:
        """Write the table of all tiles that are there; returns how many."""
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(_COLUMNS)
        count = 0
        for slide, places in tiles:
            name, values = self.name(slide), slide.values
            said = [values["text"], values["patient_id"], values["slide_id"] or name]
            said += [values["organ"], values["diagnosis"]]
            for place in places:
                file = self.tile(slide, place)
                if file.exists():  # people remove what they do not want to see again
                    writer.writerow((f"{name}/{file.name}", *said))
                    count += 1
        write_private(self.out / TABLE, text.getvalue().encode())
        return count

    def write_names(self, slides: Iterable[ListedSlide]) -> None:
        """Write which slide is which name."""
        rows = ((self.name(slide), slide.name) for slide in slides)
        write_for_people(self.out / "slides.csv", ("name", "file"), rows)

    def write_quarantine(self, left_out: Iterable[Quarantined]) -> Path:
        """Write which slides give no tiles, and why."""
        path = self.out / "quarantine.csv"
        write_quarantine(path, left_out)
        return path

    def unlisted(self, slides: Iterable[ListedSlide]) -> list[str]:
        """Names of slides with tiles here that the table of slides no longer has."""
        listed = {self.name(slide) for slide in slides}
        return sorted(path.stem for path in self._own.glob("*.jsonl") if path.stem not in listed)

    def _check_options(self, options: Mapping[str, object]) -> None:
        """Remember the options of the first run; raise `ConfigError` for others."""
        path = self._own / "options.json"
        try:
            known = json.loads(path.read_bytes())
        except FileNotFoundError:
            write_private(path, json.dumps(dict(options)).encode())
            return
        except ValueError:
            raise ConfigError(f"{path} is damaged.", "Give a new folder for the tiles.") from None
        other = [name for name, value in options.items() if known.get(name) != value]
        if other:
            had = " ".join(f"--{name.replace('_', '-')} {known.get(name)}" for name in other)
            raise ConfigError(
                f"{self.out} was begun with other options ({had}).",
                "Repeat those to go on, or give a new folder for the tiles.",
            )
