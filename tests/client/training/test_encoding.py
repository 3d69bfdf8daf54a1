"""Encoding: as the pipeline itself does it, cached by content, silent about captions."""

from __future__ import annotations

import dataclasses
import stat
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile
from safetensors.torch import save_file

from client.agent.withdrawals import purge
from client.data import SiteData, load_site_data, read_tile
from client.training import EncodedTiles, encode_site
from client.training.references import TileReference
from model.base import load_base
from model.encoders import load_encoder
from model.encoders.files import shipped_encoder
from model.text import encode_captions
from tests.client.pictures import tile_of, write_folder

DIGEST = "sha256:" + "1" * 64
LONG = "a secret caption about a rare tumour " * 9


@pytest.fixture
def site(tmp_path: Path) -> SiteData:
    """Three patients, four tiles, two captions, sizes mixed."""
    random = np.random.default_rng(0)
    tiles = []
    for index, patient in enumerate([0, 0, 2, 1]):
        path = tmp_path / f"{index}.png"
        side = 64 + 8 * index
        Image.fromarray(random.integers(0, 255, (side, side, 3), dtype=np.uint8)).save(path)
        tiles.append(tile_of(path, ["glands", LONG][index % 2], patient))
    return SiteData(tuple(tiles), 3, ())


def test_tiles_are_encoded_as_the_pipeline_does(tiny_pipeline: Any, site: SiteData) -> None:
    tiles = encode_site(tiny_pipeline, site, base_digest=DIGEST)
    assert tiles.latents.shape == (4, 4, 16, 16)
    assert tiles.text.shape == (2, 16, 32)
    assert tiles.patient_of.tolist() == [0, 0, 2, 1]
    assert [owned.tolist() for owned in tiles.by_patient()] == [[0, 1], [3], [2]]
    pixels = torch.tensor(read_tile(site.tiles[2].path, 64)).permute(2, 0, 1)[None]
    with torch.no_grad():
        posterior = tiny_pipeline.vae.encode(pixels / 127.5 - 1).latent_dist
        wanted = posterior.mode()[0] * tiny_pipeline.vae.config.scaling_factor
        text, _ = tiny_pipeline.encode_prompt("glands", "cpu", 1, False)
    torch.testing.assert_close(tiles.latents[2], wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(tiles.text[tiles.caption_of[2]], text[0])


def test_long_captions_are_cut_as_the_pipeline_cuts_them(tiny_pipeline: Any) -> None:
    ours = encode_captions(tiny_pipeline, [LONG])
    theirs, _ = tiny_pipeline.encode_prompt(LONG, "cpu", 1, False)
    torch.testing.assert_close(ours, theirs)


def test_no_caption_reaches_a_log_or_a_stream(
    tiny_pipeline: Any,
    site: SiteData,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    tiles = encode_site(tiny_pipeline, site, base_digest=DIGEST)
    captured = capfd.readouterr()
    assert "tumour" not in caplog.text + captured.out + captured.err + repr(tiles)


def test_progress_ends_at_the_last_tile(tiny_pipeline: Any, site: SiteData) -> None:
    seen: list[tuple[int, int]] = []
    encode_site(
        tiny_pipeline, site, base_digest=DIGEST, on_progress=lambda *step: seen.append(step)
    )
    assert seen[-1] == (4, 4)


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[dict[str, Counter[str]]]:
    """How often each picture below `folder` is opened, and how many pictures are decoded."""
    seen: dict[str, Counter[str]] = {"opened": Counter(), "decoded": Counter()}
    going = True

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        name = str(arguments[0]) if going and event == "open" else ""
        if name.startswith(str(folder)) and name.endswith(".png"):
            seen["opened"][Path(name).name] += 1

    def load(image: ImageFile.ImageFile) -> Any:
        if image.tile:  # pixels that are not decoded yet
            seen["decoded"]["pictures"] += 1
        return plain(image)

    plain = ImageFile.ImageFile.load
    sys.addaudithook(hook)  # cannot be taken away: `going` ends it
    with monkeypatch.context() as patch:
        patch.setattr(ImageFile.ImageFile, "load", load)
        yield seen
    going = False


def test_a_start_reads_and_decodes_each_file_once_and_again_only_to_encode(
    tiny_pipeline: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, cache = write_folder(tmp_path / "tiles", patients=3, tiles=1), tmp_path / "cache"
    with (folder / "metadata.csv").open("a") as table:  # two patients with one picture
        table.write("canary-file-0-0.png,another caption,canary-patient-7\n")
    for times in (2, 1):  # the first start encodes; later ones find the tiles in the cache
        with counted(monkeypatch, folder) as seen:
            data = load_site_data(folder)
            assert seen["opened"] == {f"canary-file-{n}-0.png": 1 for n in range(3)}
            assert seen["decoded"].total() == 3
            encode_site(tiny_pipeline, data, base_digest=DIGEST, cache=cache)
        assert seen["decoded"].total() == (3 if times == 1 else 3 + len(data.tiles))
        assert seen["opened"]["canary-file-1-0.png"] == times


class TestCache:
    def test_the_second_time_nothing_is_encoded(
        self, tiny_pipeline: Any, site: SiteData, tmp_path: Path
    ) -> None:
        first = encode_site(tiny_pipeline, site, base_digest=DIGEST, cache=tmp_path / "cache")
        tiny_pipeline.vae = tiny_pipeline.text_encoder = None  # would fail if it were asked
        second = encode_site(tiny_pipeline, site, base_digest=DIGEST, cache=tmp_path / "cache")
        for part in dataclasses.fields(first):
            torch.testing.assert_close(
                getattr(first, part.name), getattr(second, part.name), rtol=0, atol=0
            )

    @pytest.mark.parametrize("change", ["pixels", "caption", "patient", "base", "removed"])
    def test_any_change_is_encoded_again_and_the_old_entry_goes(
        self, tiny_pipeline: Any, site: SiteData, tmp_path: Path, change: str
    ) -> None:
        cache = tmp_path / "cache"
        encode_site(tiny_pipeline, site, base_digest=DIGEST, cache=cache)
        (before,) = cache.iterdir()
        tiles, base = list(site.tiles), DIGEST
        match change:
            case "pixels":
                Image.new("RGB", (64, 64)).save(tiles[0].path)
                tiles[0] = tile_of(tiles[0].path, tiles[0].caption, tiles[0].patient)
            case "caption":
                tiles[0] = dataclasses.replace(tiles[0], caption="other")
            case "patient":
                tiles[0] = dataclasses.replace(tiles[0], patient=1)
            case "base":
                base = "sha256:" + "2" * 64
            case "removed":
                tiles = tiles[1:]
        encode_site(tiny_pipeline, SiteData(tuple(tiles), 3, ()), base_digest=base, cache=cache)
        (after,) = cache.iterdir()
        assert after.name != before.name

    def test_a_damaged_entry_is_made_again(
        self, tiny_pipeline: Any, site: SiteData, tmp_path: Path
    ) -> None:
        cache = tmp_path / "cache"
        good = encode_site(tiny_pipeline, site, base_digest=DIGEST, cache=cache)
        (entry,) = cache.iterdir()
        entry.write_bytes(entry.read_bytes()[:100])
        again = encode_site(tiny_pipeline, site, base_digest=DIGEST, cache=cache)
        torch.testing.assert_close(again.latents, good.latents)
        assert encode_site(tiny_pipeline, site, base_digest=DIGEST, cache=cache) is not None

    def test_only_the_owner_can_read_it(
        self, tiny_pipeline: Any, site: SiteData, tmp_path: Path
    ) -> None:
        cache = tmp_path / "cache"
        encode_site(tiny_pipeline, site, base_digest=DIGEST, cache=cache)
        (entry,) = cache.iterdir()
        assert stat.S_IMODE(entry.stat().st_mode) == 0o600
        assert stat.S_IMODE(cache.stat().st_mode) == 0o700

    def test_what_a_killed_process_has_left_goes(
        self, tiny_pipeline: Any, site: SiteData, tmp_path: Path
    ) -> None:
        left = tmp_path / ".new-killed" / "encoded-old.safetensors"
        left.parent.mkdir()
        left.write_bytes(b"latents")
        encode_site(tiny_pipeline, site, base_digest=DIGEST, cache=tmp_path)
        assert not left.exists()
        assert len(list(tmp_path.glob("encoded-*"))) == 1

    def test_a_purge_while_it_is_written_leaves_nothing_and_stops_nothing(
        self, tiny_pipeline: Any, site: SiteData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def save(tensors: dict[str, torch.Tensor], path: Path) -> None:
            save_file(tensors, path)
            assert purge(tmp_path) == 1

        monkeypatch.setattr("client.training.encoding.save_file", save)
        tiles = encode_site(tiny_pipeline, site, base_digest=DIGEST, cache=tmp_path)
        assert len(tiles) == len(site.tiles)
        assert not list(tmp_path.rglob("encoded-*"))

    def test_a_cache_that_cannot_be_written_is_a_warning(
        self,
        tiny_pipeline: Any,
        site: SiteData,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """A full disk may be one patient's many tiles: it must not decide about the start."""
        (tmp_path / "file").write_text("")
        cache = tmp_path / "file" / "x"
        tiles = encode_site(tiny_pipeline, site, base_digest=DIGEST, cache=cache)
        assert len(tiles) == len(site.tiles)
        assert "disk space" in caplog.text

    @pytest.mark.parametrize("when", ["before", "meanwhile"])
    def test_a_vanished_file_costs_its_tile_and_nothing_of_it_is_kept(
        self,
        tiny_pipeline: Any,
        site: SiteData,
        tmp_path: Path,
        when: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        whole = encode_site(tiny_pipeline, site, base_digest=DIGEST)
        if when == "before":
            site.tiles[1].path.unlink()
            seen = None
        else:
            gone = site.tiles[1].path

            def seen(done: int, total: int) -> None:
                gone.unlink(missing_ok=True)

        cache = tmp_path / "cache"
        tiles = encode_site(tiny_pipeline, site, base_digest=DIGEST, cache=cache, on_progress=seen)
        assert torch.equal(tiles.latents[[0, 2, 3]], whole.latents[[0, 2, 3]])
        assert not torch.equal(tiles.latents[1], whole.latents[1])
        assert not list(tmp_path.rglob("encoded-*"))
        assert "can no longer be read, and are blank: 1." in caplog.text


def test_without_a_patient_neither_tiles_nor_own_captions_are_kept(
    tiny_pipeline: Any, site: SiteData
) -> None:
    tiles = encode_site(tiny_pipeline, site, base_digest=DIGEST)
    left = tiles.without({1})  # the last tile; with patient 0's second, the only long captions
    assert left.patient_of.tolist() == [0, 0, 2]
    assert torch.equal(left.latents, tiles.latents[:3])
    assert torch.equal(left.text[left.caption_of], tiles.text[tiles.caption_of[:3]])
    fewer = tiles.without([0, 1])
    assert fewer.patient_of.tolist() == [2]
    assert len(fewer.text) == 1
    assert torch.equal(fewer.text[0], tiles.text[tiles.caption_of[2]])
    assert len(tiles) == 4
    memory = {fewer.latents.untyped_storage().data_ptr(), fewer.text.untyped_storage().data_ptr()}
    assert not memory & {tiles.latents.untyped_storage().data_ptr()}
    assert fewer.latents.untyped_storage().nbytes() == fewer.latents.nbytes


def test_everybody_may_go(tiny_pipeline: Any, site: SiteData, tmp_path: Path) -> None:
    """Taken out while it runs, or left out from the start: the same empty tiles."""
    encoded = encode_site(tiny_pipeline, site, base_digest=DIGEST).without([0, 1, 2])
    nobody = dataclasses.replace(site, tiles=())
    for _ in range(2):  # encoded, then from the cache
        empty = encode_site(tiny_pipeline, nobody, base_digest=DIGEST, cache=tmp_path / "cache")
        assert empty.latents.shape == encoded.latents.shape == (0, 4, 16, 16)
        assert empty.text.shape == encoded.text.shape == (0, 16, 32)
        assert empty.caption_of.dtype == encoded.caption_of.dtype == torch.int64
        assert empty.by_patient() == []


@pytest.fixture
def crowd(tmp_path: Path) -> SiteData:
    """Nine patients with a tile and a caption each; the lines are theirs whoever else is there."""
    tiles = []
    for number in range(9):
        path = tmp_path / f"crowd-{number}.png"
        values = np.random.default_rng(number).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(values).save(path)
        tiles.append(tile_of(path, f"caption {number} " + "of glands " * number, number))
    return SiteData(tuple(tiles), 9, (), tuple(bytes([number]) * 32 for number in range(9)))


def chosen(crowd: SiteData, numbers: list[int]) -> SiteData:
    """Some of them, numbered anew as a table without the others would have them."""
    tiles = [
        dataclasses.replace(crowd.tiles[number], patient=place)
        for place, number in enumerate(numbers)
    ]
    lines = tuple(crowd.lines[number] for number in numbers)
    return SiteData(tuple(tiles), len(tiles), (), lines)


def of_each(tiles: EncodedTiles) -> dict[bytes, tuple[bytes, ...]]:
    """Every patient's latents, caption and reference, byte for byte, by the patient's line."""
    found = {}
    for patient, (tile,) in enumerate(tiles.by_patient()):
        parts = [tiles.latents[tile], tiles.text[tiles.caption_of[tile]]]
        parts += [] if tiles.reference is None else [tiles.reference[tile]]
        found[tiles.identity(patient)] = tuple(part.numpy().tobytes() for part in parts)
    return found


@pytest.mark.parametrize("referenced", [False, True])
def test_what_becomes_of_a_tile_depends_on_itself_alone(
    tiny_base: Path, crowd: SiteData, referenced: bool
) -> None:
    """Bit for bit, whoever else is there and in whatever order, with 1, 7, 8 and 9 tiles."""
    if referenced and shipped_encoder("tiny") is None:
        pytest.skip("no tiny encoder here")
    pipeline = load_base(tiny_base, torch.device("cpu"))
    encoder = load_encoder("tiny", torch.device("cpu")) if referenced else None
    reference = None if encoder is None else TileReference(encoder.digest, 8, lambda: encoder)

    def encoded(data: SiteData) -> dict[bytes, tuple[bytes, ...]]:
        tiles = encode_site(pipeline, data, base_digest=DIGEST, reference=reference)
        assert tiles.lines == data.lines
        return of_each(tiles)

    wanted = encoded(crowd)
    assert len({parts[0] for parts in wanted.values()}) == 9
    for numbers in (
        [4],
        [0, 1, 2, 3, 4, 5, 6],
        [8, 7, 6, 5, 4, 3, 2, 1],
        [3, 4, 0, 8, 7, 5, 1, 2, 6],
    ):
        found = encoded(chosen(crowd, numbers))
        assert found == {line: wanted[line] for line in found}
        assert len(found) == len(numbers)


def test_hostile_pictures_and_captions_change_no_other_tile(
    tiny_base: Path, crowd: SiteData
) -> None:
    pipeline = load_base(tiny_base, torch.device("cpu"))
    wanted = of_each(encode_site(pipeline, crowd, base_digest=DIGEST))
    tiles = list(crowd.tiles)
    for place, colour in ((0, "white"), (3, "black"), (8, "red")):
        Image.new("RGB", (16, 4000), colour).save(tiles[place].path)
        tiles[place] = dataclasses.replace(tiles[place], caption="\U0010ffff" * 30_000)
    found = of_each(
        encode_site(pipeline, dataclasses.replace(crowd, tiles=tuple(tiles)), base_digest=DIGEST)
    )
    same = [line for line in crowd.lines if found[line] == wanted[line]]
    assert same == [line for number, line in enumerate(crowd.lines) if number not in (0, 3, 8)]


def test_the_cache_keeps_tiles_and_the_data_bring_the_lines(
    tiny_pipeline: Any, crowd: SiteData, tmp_path: Path
) -> None:
    first = encode_site(tiny_pipeline, crowd, base_digest=DIGEST, cache=tmp_path / "cache")
    other = dataclasses.replace(crowd, lines=crowd.lines[::-1])
    again = encode_site(tiny_pipeline, other, base_digest=DIGEST, cache=tmp_path / "cache")
    assert (first.lines, again.lines) == (crowd.lines, other.lines)
    assert torch.equal(first.latents, again.latents)
    assert again.without([0]).identity(1) == other.lines[1]
    assert dataclasses.replace(again, lines=()).identity(1) != again.identity(1)
    (entry,) = (tmp_path / "cache").iterdir()
    assert crowd.lines[1] not in entry.read_bytes()
