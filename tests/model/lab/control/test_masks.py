"""Readers of nuclear masks: every published form, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import io

from model.lab.control.masks import PANNUKE_TYPES, count_masks, read_mask
from model.lab.control.matfile import CONSEP_TYPES, LIZARD_TYPES
from model.lab.control.nuclear_mask import NuclearMask
from privacy.errors import ModelError

NUCLEI = Path(__file__).parents[5] / "shared" / "data" / "nuclei"


def two_nuclei() -> NDArray[np.int32]:
    instances = np.zeros((12, 16), np.int32)
    instances[1:5, 1:6] = 3
    instances[6:10, 8:14] = 700
    return instances


def save(path: Path, values: NDArray[np.generic]) -> Path:
    Image.fromarray(values).save(path)
    return path


def test_a_sixteen_bit_png_keeps_its_numbers(tmp_path: Path) -> None:
    mask = read_mask(save(tmp_path / "m.png", two_nuclei().astype(np.uint16)))
    assert np.array_equal(mask.instances, two_nuclei())
    assert mask.count == 2 and mask.names == ()
    assert np.array_equal(mask.types, two_nuclei() > 0)


def test_a_tiff_is_read_too(tmp_path: Path) -> None:
    mask = read_mask(save(tmp_path / "m.tif", two_nuclei().astype(np.uint16)))
    assert np.array_equal(mask.instances, two_nuclei())


def test_connected_parts_of_a_two_valued_image_become_nuclei(tmp_path: Path) -> None:
    binary = np.where(two_nuclei() > 0, 255, 0).astype(np.uint8)
    mask = read_mask(save(tmp_path / "m.png", binary))
    assert mask.count == 2 and set(np.unique(mask.instances)) == {0, 1, 2}


def test_an_empty_mask_has_no_nuclei(tmp_path: Path) -> None:
    assert read_mask(save(tmp_path / "m.png", np.zeros((8, 8), np.uint16))).count == 0


def test_a_full_mask_counts_its_one_nucleus() -> None:
    assert NuclearMask.untyped(np.full((4, 4), 9)).count == 1


def pannuke() -> NDArray[np.float64]:
    array = np.zeros((2, 16, 16, 6))
    array[1, 2:5, 2:5, 0] = 1
    array[1, 8:12, 8:12, 4] = 1  # the same number in another channel is another nucleus
    array[1, :, :, 5] = array[1, :, :, :5].sum(axis=2) == 0
    return array


def test_pannuke_gives_instances_and_types(tmp_path: Path) -> None:
    np.save(tmp_path / "masks.npy", pannuke())
    assert count_masks(tmp_path / "masks.npy") == 2
    assert read_mask(tmp_path / "masks.npy").count == 0
    mask = read_mask(tmp_path / "masks.npy", index=1)
    assert mask.names == PANNUKE_TYPES and mask.count == 2
    assert mask.types[3, 3] == 1 and mask.types[9, 9] == 5 and mask.types[0, 0] == 0
    assert mask.instances[3, 3] != mask.instances[9, 9]


def test_one_image_of_pannuke_needs_no_first_axis(tmp_path: Path) -> None:
    np.save(tmp_path / "mask.npy", pannuke()[1])
    assert read_mask(tmp_path / "mask.npy").count == 2


def test_pannuke_has_no_such_number(tmp_path: Path) -> None:
    np.save(tmp_path / "masks.npy", pannuke())
    with pytest.raises(ModelError, match="holds 2 masks"):
        read_mask(tmp_path / "masks.npy", index=2)


def lizard() -> dict[str, NDArray[np.generic]]:
    return {
        "inst_map": two_nuclei(),
        "id": np.array([[700], [3]]),
        "class": np.array([[2], [6]]),
    }


def test_lizard_lists_types_by_number(tmp_path: Path) -> None:
    io.savemat(tmp_path / "m.mat", lizard())
    mask = read_mask(tmp_path / "m.mat")
    assert mask.names == LIZARD_TYPES and mask.count == 2
    assert LIZARD_TYPES[mask.types[7, 9] - 1] == "epithelial"
    assert LIZARD_TYPES[mask.types[2, 2] - 1] == "connective"


def test_consep_has_a_map_of_types(tmp_path: Path) -> None:
    types = np.where(two_nuclei() == 3, 5, np.where(two_nuclei() == 700, 2, 0))
    io.savemat(tmp_path / "m.mat", {"inst_map": two_nuclei().astype(float), "type_map": types})
    mask = read_mask(tmp_path / "m.mat")
    assert mask.names == CONSEP_TYPES
    assert mask.types[2, 2] == 5 and mask.types[7, 9] == 2


def test_consep_types_may_come_as_a_list(tmp_path: Path) -> None:
    fields = {"inst_map": two_nuclei(), "inst_type": np.array([[5.0], [2.0]])}
    io.savemat(tmp_path / "m.mat", fields)
    mask = read_mask(tmp_path / "m.mat")
    assert mask.types[2, 2] == 5 and mask.types[7, 9] == 2


def test_a_mat_file_without_types_is_untyped(tmp_path: Path) -> None:
    io.savemat(tmp_path / "m.mat", {"inst_map": two_nuclei()})
    assert read_mask(tmp_path / "m.mat").names == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"class": np.array([[2], [7]])}, "types other than"),
        ({"class": np.array([[2]])}, "2 nuclei but 1 types"),
        ({"id": np.array([[3], [4]])}, "have no type"),
        ({"inst_map": -two_nuclei()}, "not instance numbers"),
        ({"inst_map": np.full((2, 2), np.nan)}, "not instance numbers"),
        ({"inst_map": np.zeros((2, 2, 2))}, "not an instance map"),
    ],
)
def test_damaged_mat_files(
    tmp_path: Path, change: dict[str, NDArray[np.generic]], words: str
) -> None:
    io.savemat(tmp_path / "m.mat", lizard() | change)
    with pytest.raises(ModelError, match=words):
        read_mask(tmp_path / "m.mat")


def test_a_mat_file_of_something_else(tmp_path: Path) -> None:
    io.savemat(tmp_path / "m.mat", {"x": np.ones(3)})
    with pytest.raises(ModelError, match="inst_map"):
        read_mask(tmp_path / "m.mat")


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ModelError, match="cannot be read"):
        read_mask(tmp_path / "m.npy")


@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy", ".mat"])
@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 30])
def test_files_that_are_not_what_they_say(tmp_path: Path, suffix: str, content: bytes) -> None:
    (tmp_path / f"m{suffix}").write_bytes(content)
    with pytest.raises(ModelError):
        read_mask(tmp_path / f"m{suffix}")


@pytest.mark.parametrize("suffix", [".png", ".npy", ".mat"])
def test_files_that_were_cut_short(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"m{suffix}"
    if suffix == ".png":
        save(path, np.random.default_rng(1).integers(9, size=(64, 64)).astype(np.uint16))
    elif suffix == ".npy":
        np.save(path, pannuke())
    else:
        io.savemat(path, lizard())
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ModelError):
        read_mask(path)


def test_other_shapes_and_kinds(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.zeros((4, 4)))
    with pytest.raises(ModelError, match=r"\[N, h, w, 6\]"):
        read_mask(tmp_path / "m.npy")
    with (tmp_path / "z.npy").open("wb") as file:
        np.savez(file, a=np.zeros(3))
    with pytest.raises(ModelError, match=r"\[N, h, w, 6\]"):
        read_mask(tmp_path / "z.npy")
    save(tmp_path / "colour.png", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ModelError, match="colour picture"):
        read_mask(tmp_path / "colour.png")
    (tmp_path / "m.json").write_text("{}")
    with pytest.raises(ModelError, match=r"\.json are not read"):
        read_mask(tmp_path / "m.json")
    with pytest.raises(ModelError, match="not a file"):
        read_mask(tmp_path / "absent.png")


def test_numbers_beyond_int32_are_renumbered() -> None:
    mask = NuclearMask.untyped(np.array([[0, 2**40], [2**41, 2**40]]))
    assert mask.instances.tolist() == [[0, 1], [2, 1]]


@pytest.mark.skipif(not NUCLEI.is_dir(), reason="the shared data are not here")
def test_real_masks_are_read() -> None:
    paths = sorted((NUCLEI / "masks").glob("*.png"))
    counts = [read_mask(path).count for path in paths[:10]]
    assert min(counts) > 1
