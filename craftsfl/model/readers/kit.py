"""`reader-study make`: a page for each reader, and the sealed key.

    OUT/reader-01.html, ...   what readers get: one file, works without a network
    OUT/README.md             for whoever runs the study: what it can show, ethics, what to do
    OUT/key.json              what is what; readers never get it

The study's name is the SHA-256 of the key. It is on every page and in every reader's answers, so a
key that was changed after it was sealed, or is another study's, does not open them.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from client.data import read_tile
from client.data.imagefolder import SiteTile
from craftsfl.model.evaluation.inputs import TileFolder, check_generated, read_tiles
from craftsfl.model.readers.page import PageAbout, reader_page
from craftsfl.model.readers.subject import JudgedModel, judged_model
from craftsfl.model.readers.words import study_readme
from model.lab.readers.items import (
    CAPTIONS,
    REAL,
    SYNTHETIC,
    ReadingItem,
    ReadingPicture,
    build_items,
    reading_order,
)
from privacy.errors import ConfigError, DataError
from privacy.files import write_private

KEY_FILE = "key.json"
KEY_FORMAT = 2  # 1: pages had no mark of their own
_BEFORE = "before"  # training; its own pictures are in pairs alone


@dataclass(frozen=True, slots=True)
class KitRequest:
    """What is judged by how many; `each`: pictures of each kind. `before`: of the base alone."""

    out: Path
    real: Path
    synthetic: Path
    before: Path | None = None
    readers: int = 3
    each: int = 20
    seed: int | None = None  # None: one that nobody knows


@dataclass(frozen=True, slots=True)
class MadeKit:
    """What was made."""

    study: str  # SHA-256 of the key, hex
    pages: tuple[Path, ...]
    items: tuple[ReadingItem, ...] = field(repr=False)
    model: JudgedModel | None  # whose pictures are judged; None: they do not say, or differ
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Pool:
    """The pictures in blinded order, and which of them are pairs of before and after."""

    pictures: list[ReadingPicture] = field(repr=False)
    tiles: list[SiteTile] = field(repr=False)
    pairs: list[tuple[ReadingPicture, ReadingPicture]] = field(repr=False)
    judged: list[ReadingPicture] = field(repr=False)


def make_kit(request: KitRequest) -> MadeKit:
    """Write the kit; raises `ConfigError` for a folder that exists, `DataError` for too few."""
    _check(request)
    real = read_tiles(request.real, ids_confirmed=True)
    synthetic = read_tiles(request.synthetic, ids_confirmed=True)
    check_generated(real, synthetic)
    before = None
    if request.before is not None:
        before = read_tiles(request.before, ids_confirmed=True)
    seed = secrets.randbits(128) if request.seed is None else request.seed
    rng = np.random.default_rng(seed)
    pool = _pool(request, real, synthetic, before, rng)
    items = build_items(pool.judged, pool.pairs, rng)
    names = [f"reader-{number:02d}" for number in range(1, request.readers + 1)]
    model = _model(pool)
    salt = secrets.token_bytes(32)
    key = _key(items, pool, names, (model, salt))
    study = hashlib.sha256(key).hexdigest()
    side = min(folder.side() for folder in (real, synthetic, before) if folder is not None)
    pixels = [read_tile(tile.path, side) for tile in pool.tiles]
    request.out.mkdir(mode=0o700, parents=True)
    write_private(request.out / KEY_FILE, key)
    pages = []
    for name in names:
        about = PageAbout(study, name, page_mark(salt, name))
        page = reader_page(about, reading_order(items, rng), pixels)
        pages.append(request.out / f"{name}.html")
        write_private(pages[-1], page.encode())
    text = study_readme(study, items, request.readers)
    write_private(request.out / "README.md", text.encode())
    return MadeKit(study, tuple(pages), tuple(items), model, tuple(_notes(pool, model)))


def _check(request: KitRequest) -> None:
    if request.out.exists():
        raise ConfigError(f"{request.out} exists already.", "Name a new folder.")
    if request.readers < 1 or request.readers > 99:
        raise ConfigError("A study has 1 to 99 readers.", "--readers 3, for example.")
    if request.each < 1:
        raise ConfigError("--each is less than 1.", "Give the number of pictures of each kind.")


def _pool(
    request: KitRequest,
    real: TileFolder,
    synthetic: TileFolder,
    before: TileFolder | None,
    rng: np.random.Generator,
) -> _Pool:
    """Choose, and shuffle: the numbers of the pictures say nothing."""
    chosen = [(REAL, tile) for tile in _chosen(real, request.each, rng, request.real)]
    after = _chosen(synthetic, request.each, rng, request.synthetic)
    chosen += [(SYNTHETIC, tile) for tile in after]
    judged = len(chosen)
    partners = [] if before is None else list(_partners(request, after, before))
    chosen += [(_BEFORE, tile) for _, tile in partners]
    order = rng.permutation(len(chosen))
    number = {int(old): new for new, old in enumerate(order)}
    pictures = [
        ReadingPicture(number[place], origin, tile.caption)
        for place, (origin, tile) in enumerate(chosen)
    ]
    pairs = [
        (pictures[judged + place], pictures[request.each + index])
        for place, (index, _) in enumerate(partners)
    ]
    tiles = [chosen[int(old)][1] for old in order]
    return _Pool(sorted(pictures, key=lambda p: p.number), tiles, pairs, pictures[:judged])


def _chosen(folder: TileFolder, each: int, rng: np.random.Generator, where: Path) -> list[SiteTile]:
    """From every patient in turn, so that no patient's tiles fill the study."""
    patients: dict[int, list[SiteTile]] = {}
    tiles = folder.data.tiles
    for place in rng.permutation(len(tiles)):
        patients.setdefault(tiles[place].patient, []).append(tiles[place])
    turns: list[SiteTile] = []
    for turn in range(max(map(len, patients.values()))):
        turns += [own[turn] for own in patients.values() if turn < len(own)]
    if len(turns) < each:
        raise DataError(
            f"{where} has {len(turns)} usable tiles, {each} are wanted.", f"--each {len(turns)}"
        )
    return turns[:each]


def _partners(
    request: KitRequest, after: Sequence[SiteTile], before: TileFolder
) -> Iterator[tuple[int, SiteTile]]:
    """For each synthetic picture the one of the same name and caption from before training."""
    if request.before is None:
        return
    roots = request.synthetic.resolve(), request.before.resolve()
    known = {tile.path.relative_to(roots[1]): tile for tile in before.data.tiles}
    count = 0
    for place, tile in enumerate(after):
        partner = known.get(tile.path.relative_to(roots[0]))
        if partner is not None and partner.caption == tile.caption:
            count += 1
            yield place, partner
    if not count:
        raise DataError(
            f"No picture of {request.before} has name and caption of one in {request.synthetic}.",
            "Draw both by craftsfl model sample --out-dir, with the same prompts and seeds.",
        )


def _model(pool: _Pool) -> JudgedModel | None:
    of = [
        (picture.origin, tile.path) for picture, tile in zip(pool.pictures, pool.tiles, strict=True)
    ]
    return judged_model(
        [path for origin, path in of if origin == SYNTHETIC],
        [path for origin, path in of if origin == _BEFORE],
    )


def _key(
    items: Sequence[ReadingItem],
    pool: _Pool,
    readers: Sequence[str],
    sealed: tuple[JudgedModel | None, bytes],
) -> bytes:
    """What is sealed; its salt keeps its SHA-256 from being guessed from the few possible keys."""
    model, salt = sealed
    values = {
        "format": KEY_FORMAT,
        "salt": salt.hex(),
        "readers": list(readers),
        "pictures": [picture.origin for picture in pool.pictures],
        "model": None if model is None else asdict(model),
        "items": [asdict(item) for item in items],
    }
    return (json.dumps(values, indent=1, ensure_ascii=False) + "\n").encode()


def page_mark(salt: bytes, reader: str) -> str:
    """What the page of `reader` writes into its answers: nobody makes another reader's from it."""
    return hmac.new(salt, reader.encode("ascii"), "sha256").hexdigest()[:32]


def _notes(pool: _Pool, model: JudgedModel | None) -> Iterator[str]:
    if model is None:
        yield (
            "The synthetic pictures do not all say that one adapter drew them: the result cannot "
            "be signed for craftsfl rounds promote."
        )
    elif pool.pairs and not model.base_before:
        yield (
            "The pictures from before training do not all say that this adapter's base drew them "
            "alone: what readers prefer cannot be signed for craftsfl rounds promote."
        )
    captions = {picture.caption for picture in pool.judged}
    if len(captions) < CAPTIONS:
        yield f"No question about captions: there are {len(captions)} different ones, of 4."
