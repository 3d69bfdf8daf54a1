"""Where captioned pictures come from, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image

from model.lab.stage_one.pictures import Unusable, decode_square
from model.lab.stage_one.source import open_sources
from model.lab.stage_one.texts import Texts
from privacy.errors import ModelError
from tests.model.lab.stage_one.pictures import picture, write_folder, write_shard


def test_texts_come_back_as_they_were() -> None:
    texts = ["", "tissue", "Übergröße 漢字", "odd \udc80 name", ""]
    packed = Texts.of(texts)
    assert [packed[index] for index in range(len(packed))] == texts


def test_a_folder_gives_its_rows(tmp_path: Path) -> None:
    source = open_sources([str(write_folder(tmp_path / "a", 3))], "text", public=False)
    assert len(source) == 3
    assert [source.caption(n) for n in range(3)] == ["tissue 0", "tissue 1", "tissue 2"]
    assert source.picture(2) == picture(2) and source.name(2) == "a/002.png"


def test_a_folder_may_be_jsonl_with_another_column(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(picture(1))
    record = {"file_name": "x.png", "caption": " two \n words "}
    (tmp_path / "metadata.jsonl").write_text(json.dumps(record) + "\n\n")
    source = open_sources([str(tmp_path)], "caption", public=False)
    assert source.caption(0) == "two words"


def test_shards_give_what_webdataset_reads(tmp_path: Path) -> None:
    for shard in range(2):
        write_shard(tmp_path / f"s-{shard:03d}.tar", range(shard * 3, shard * 3 + 3))
    pattern = str(tmp_path / "s-{000..001}.tar")
    source = open_sources([pattern], "text", public=False)
    theirs = list(webdataset.WebDataset(pattern, shardshuffle=False, empty_check=False))
    assert len(source) == len(theirs) == 6
    for number, sample in enumerate(theirs):
        assert source.picture(number) == sample["png"]
        assert source.caption(number) == sample["txt"].decode()
        assert source.name(number).endswith(sample["__key__"])


def test_captions_may_lie_in_json(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "s.tar", [1, 2], json={"text": "glands", "organ": "colon"})
    source = open_sources([str(shard)], "text", public=False)
    assert source.caption(1) == "glands"
    with pytest.raises(Unusable, match="caption is missing"):
        open_sources([str(shard)], "title", public=False).caption(0)


def test_folders_and_shards_are_joined_in_order(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "a", 2)
    shard = write_shard(tmp_path / "s.tar", [7, 8, 9])
    source = open_sources([str(folder), str(shard)], "text", public=False)
    texts = [source.caption(number) for number in range(len(source))]
    assert texts == ["tissue 0", "tissue 1", "tissue 7", "tissue 8", "tissue 9"]
    other = open_sources([str(shard), str(folder)], "text", public=False)
    assert source.fingerprint() != other.fingerprint()


@pytest.mark.parametrize("column", ["patient_id", "Patient ID", "MRN"])
def test_a_table_with_patients_is_refused_unless_it_is_public(tmp_path: Path, column: str) -> None:
    folder = str(write_folder(tmp_path / "a", 2, [column]))
    with pytest.raises(ModelError, match="hospital") as error:
        open_sources([folder], "text", public=False)
    assert "--public" in error.value.hint
    assert len(open_sources([folder], "text", public=True)) == 2


def test_a_sites_own_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "site.toml").touch()
    with pytest.raises(ModelError, match=r"site\.toml"):
        open_sources([str(write_folder(tmp_path / "a", 2))], "text", public=False)


def test_a_shard_with_patients_is_refused_though_captions_lie_in_txt(tmp_path: Path) -> None:
    beside = {"txt": "glands", "json": {"patient_id": "7"}}
    shard = str(write_shard(tmp_path / "s.tar", [1], **beside))
    with pytest.raises(ModelError, match="patient_id"):
        open_sources([shard], "text", public=False)


def bad(tmp_path: Path, what: str) -> str:
    """A place that cannot be used, and why not."""
    folder = tmp_path / "a"
    if what == "empty folder":
        folder.mkdir()
    elif what == "no rows":
        folder.mkdir()
        (folder / "metadata.csv").write_text("file_name,text\n")
    elif what == "no column":
        folder.mkdir()
        (folder / "metadata.csv").write_text("file_name,title\nx.png,a\n")
    elif what == "no captions":
        folder.mkdir()
        (folder / "metadata.csv").write_text("file_name,text\nx.png,\n")
    elif what == "bad json":
        folder.mkdir()
        (folder / "metadata.jsonl").write_text('{"file_name": 1\n')
    elif what == "damaged shard":
        (tmp_path / "s.tar").write_bytes(b"\x1f\x8b no tar" * 99)
        return str(tmp_path / "s.tar")
    elif what == "shard without captions":
        return str(write_shard(tmp_path / "s.tar", [1, 2], cls=3))
    return {"remote": "https://x.org/s.tar", "no shard": str(tmp_path / "s-{0..3}.tar")}.get(
        what, str(folder)
    )


@pytest.mark.parametrize(
    "what, says",
    [
        ("empty folder", "no metadata file"),
        ("no rows", "none of 0 rows"),
        ("no column", "has no column text; it has file_name, title"),
        ("no captions", "none of 1 rows has a caption"),
        ("bad json", "line 1 is not JSON"),
        ("absent", "does not exist"),
        ("no shard", "4 of 4 shards are missing"),
        ("remote", "is not a file here"),
        ("damaged shard", "is not an uncompressed tar"),
        ("shard without captions", "none of 2 pictures has a caption"),
    ],
)
def test_what_is_missing_is_said(tmp_path: Path, what: str, says: str) -> None:
    with pytest.raises(ModelError, match=says) as error:
        open_sources([bad(tmp_path, what)], "text", public=False)
    assert error.value.hint


def test_files_outside_of_the_folder_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(picture(1))
    folder = write_folder(tmp_path / "a", 1)
    (folder / "metadata.csv").write_text("file_name,text\n../secret.png,a\nnone.png,b\n")
    source = open_sources([str(folder)], "text", public=False)
    with pytest.raises(Unusable, match="outside"):
        source.picture(0)
    with pytest.raises(Unusable, match="missing"):
        source.picture(1)


def test_pictures_become_squares_and_are_never_enlarged(tmp_path: Path) -> None:
    assert decode_square(picture(1, 64), 64).shape == (64, 64, 3)
    assert np.array_equal(
        decode_square(picture(1, 64), 64),
        np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8),
    )
    assert decode_square(picture(1, 200, "JPEG"), 64).shape == (64, 64, 3)
    with pytest.raises(Unusable, match="48x48 pixels: smaller than 64x64"):
        decode_square(picture(1, 48), 64)
    with pytest.raises(Unusable, match="damaged"):
        decode_square(picture(1, 64)[:2000], 64)
    with pytest.raises(Unusable, match="not an image"):
        decode_square(b"%!PS-Adobe", 64)
    path = tmp_path / "grey.png"
    Image.fromarray(np.full((64, 64), 0xFFFF, np.uint16)).save(path)
    assert decode_square(path.read_bytes(), 64).min() == 255
