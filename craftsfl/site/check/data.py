"""The data folder as it is: what would be trained on, and what a person should look at before.

Pure: from the folder as it was read and the looks at its pictures. Names no patient, file or text;
rows are named by their number below the header.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from client.data import SiteData
from client.data.imagefolder import SiteTile
from client.data.likeness import MOST_COMPARED, alike
from client.data.metadata import Row
from craftsfl.site.check.captions import suspect_rows
from craftsfl.site.check.finding import Checked, CheckId, Fact, Finding
from craftsfl.site.check.looks import Look

_LARGE_SHARE: Final = 0.5  # of the tiles under one id
_FEW: Final = 3  # patients, of whom one may well have most of the tiles
_BLACK: Final = 50  # grey that 99 % of the pixels stay below
_FLAT: Final = 2.0  # standard deviation of the greys of a picture that shows nothing
_LOST: Final = 0.02  # share of a picture that is cut off before it is worth a word
_LISTED: Final = 8  # rows, or reasons, that are named


@dataclass(frozen=True, slots=True)
class SeenData:
    """The folder as the agent reads it, and what was seen of each picture.

    `side`: of the square pictures that the model is made for, in pixels; None where not known.
    """

    data: SiteData
    rows: Sequence[Row] = field(repr=False)
    looks: Mapping[int, Look] = field(repr=False)  # by row of the table
    side: int | None = None


def check_data(seen: SeenData) -> Iterator[Checked]:
    """Everything about tiles, patients, pictures and captions, with the graver things first."""
    data = seen.data
    yield Fact("tiles", _tiles_words(data))
    if not data.tiles:
        yield Finding(CheckId.NO_TILES, f"None of {len(seen.rows)} rows is a usable tile.")
    yield from _quarantined(data)
    yield from _ids(data)
    yield from _alike(seen)
    yield from _captions(seen)
    yield from _pictures(seen)


def rows_text(rows: Sequence[int]) -> str:
    """ "row 3", or "rows 3, 5 and 120 more"."""
    first, more = sorted(rows)[:_LISTED], len(rows) - _LISTED
    listed = ", ".join(map(str, first))
    return f"row{'s' * (len(rows) > 1)} {listed}" + (f" and {more} more" if more > 0 else "")


def _tiles_words(data: SiteData) -> str:
    each = Counter(tile.patient for tile in data.tiles).values()
    if not each:
        return f"0 tiles; {len(data.quarantined)} entries are left out"
    middle = sorted(each)[len(each) // 2]
    return (
        f"{len(data.tiles)} tiles of {len(each)} patients: {min(each)} to {max(each)} each, "
        f"{middle} in the middle; {len(data.quarantined)} entries are left out"
    )


def _quarantined(data: SiteData) -> Iterator[Finding]:
    if data.quarantined:
        reasons = Counter(entry.reason for entry in data.quarantined).most_common()
        listed = "; ".join(f"{count} x {reason}" for reason, count in reasons[:_LISTED])
        more = f"; and {len(reasons) - _LISTED} more reasons" if len(reasons) > _LISTED else ""
        yield Finding(CheckId.QUARANTINE, f"{len(data.quarantined)} left out: {listed}{more}.")


def _ids(data: SiteData) -> Iterator[Finding]:
    if data.doubt:
        yield Finding(CheckId.IDS_DOUBTFUL, f"{data.doubt[0].upper()}{data.doubt[1:]}.")
    each = Counter(tile.patient for tile in data.tiles)
    if len(each) >= _FEW:
        largest = each.most_common(1)[0][1]
        if largest > _LARGE_SHARE * len(data.tiles):
            row = min(t.row for t in data.tiles if each[t.patient] == largest)
            words = (
                f"One id of {len(each)} has {largest} of {len(data.tiles)} tiles (see row {row})."
            )
            yield Finding(CheckId.ONE_LARGE_ID, words)


def _alike(seen: SeenData) -> Iterator[Checked]:
    """Pictures of different patients that are the same, or look it."""
    tiles = seen.data.tiles
    owners: dict[bytes, set[int]] = defaultdict(set)
    for tile in tiles:
        owners[tile.digest].add(tile.patient)
    shared = [tile.row for tile in tiles if len(owners[tile.digest]) > 1]
    if shared:
        yield Finding(
            CheckId.SAME_PICTURE,
            f"{len(shared)} entries show files that stand under several ids: {rows_text(shared)}.",
        )
    if len(tiles) > MOST_COMPARED:
        yield Fact("likeness", f"not compared: more than {MOST_COMPARED} tiles")
        return
    shown = [tile for tile in tiles if _look(seen, tile).contrast > _FLAT]
    hashes = [bytes.fromhex(_look(seen, tile).likeness) for tile in shown]
    pairs = [
        (shown[a], shown[b])
        for a, b in alike(hashes, [tile.patient for tile in shown])
        if shown[a].digest != shown[b].digest
    ]
    if pairs:
        listed = "; ".join(f"rows {a.row} and {b.row}" for a, b in pairs[:_LISTED])
        more = f"; and {len(pairs) - _LISTED} more pairs" if len(pairs) > _LISTED else ""
        yield Finding(
            CheckId.ALIKE_PICTURES,
            f"{len(pairs)} pairs of pictures of different patients look alike: {listed}{more}.",
        )


def _captions(seen: SeenData) -> Iterator[Checked]:
    for kind, rows in suspect_rows(seen.rows).items():
        yield Finding(
            CheckId.CAPTIONS_NAMES, f"{len(rows)} captions hold {kind}: {rows_text(rows)}."
        )
    texts = Counter(tile.caption for tile in seen.data.tiles)
    if len(texts) == 1 and len(seen.data.tiles) > 1:
        yield Finding(CheckId.CAPTIONS_SAME, f"All {len(seen.data.tiles)} captions are one text.")
    elif texts:
        yield Fact("captions", f"{len(texts)} different texts")


def _pictures(seen: SeenData) -> Iterator[Finding]:
    yield from _of(
        seen, CheckId.NEAR_BLACK, "pictures are nearly black", lambda look: look.brightest < _BLACK
    )
    yield from _of(
        seen,
        CheckId.BLANK,
        "pictures show next to nothing",
        lambda look: look.contrast <= _FLAT and look.brightest >= _BLACK,
    )
    kinds = sorted({look.ignored for look in seen.looks.values()} - {""})
    for kind in kinds:
        words, same = f"pictures have {kind}", partial(_has_ignored, kind)
        yield from _of(seen, CheckId.CHANNELS_IGNORED, words, same)
    side = seen.side
    if side is not None:
        yield from _of(
            seen,
            CheckId.ENLARGED,
            f"pictures are smaller than the model's {side} x {side} pixels",
            lambda look: min(look.width, look.height) < side,
        )
    yield from _of(seen, CheckId.CROPPED, "pictures are not square", _is_cropped)


def _has_ignored(kind: str, look: Look) -> bool:
    return look.ignored == kind


def _is_cropped(look: Look) -> bool:
    return 1 - min(look.width, look.height) / max(look.width, look.height) > _LOST


def _of(
    seen: SeenData, id: CheckId, words: str, applies: Callable[[Look], bool]
) -> Iterator[Finding]:
    rows = [tile.row for tile in seen.data.tiles if applies(_look(seen, tile))]
    if rows:
        yield Finding(id, f"{len(rows)} of {len(seen.data.tiles)} {words}: {rows_text(rows)}.")


def _look(seen: SeenData, tile: SiteTile) -> Look:
    return seen.looks[tile.row]
