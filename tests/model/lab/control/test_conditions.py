"""Conditions: channels, sizes, fluorescence, and what does not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.lab.control.conditions import (
    boundary,
    distance,
    marker_condition,
    mask_condition,
    read_marker_condition,
    resized_markers,
    resized_mask,
)
from model.lab.control.markers import normalised, read_markers, simulated_marker
from model.lab.control.masks import PANNUKE_TYPES, read_mask
from model.lab.control.nuclear_mask import NuclearMask
from model.lab.control.reading import read_conditions
from model.lab.control.spec import UNTYPED, ControlSpec
from privacy.errors import ModelError

BASE = "sha256:" + "0" * 64
BOTH = ControlSpec(UNTYPED, ("nuclei",), 16, BASE)
TYPED = ControlSpec(PANNUKE_TYPES, (), 16, BASE)


def squares(size: int = 16) -> NuclearMask:
    """Two nuclei that touch each other: types 1 and 3 of PanNuke's."""
    instances = np.zeros((size, size), np.int32)
    instances[4:10, 2:8] = 1
    instances[4:10, 8:14] = 2
    types = np.where(instances == 2, 3, instances).astype(np.uint8)
    return NuclearMask(instances, types, PANNUKE_TYPES)


def test_channels_are_types_boundary_distance_markers() -> None:
    planes = mask_condition(squares(), BOTH)
    assert BOTH.names == ("nucleus", "boundary", "distance", "nuclei")
    assert planes.shape == (4, 16, 16) and planes.min() == 0 and planes.max() == 1
    assert np.array_equal(planes[0], squares().instances > 0)
    assert planes[3].abs().sum() == 0


def test_each_type_has_a_channel() -> None:
    planes = mask_condition(squares(), TYPED).numpy()
    assert planes.shape == (7, 16, 16)
    assert np.array_equal(planes[0], squares().instances == 1)
    assert np.array_equal(planes[2], squares().instances == 2)
    assert planes[[1, 3, 4]].sum() == 0


def test_touching_nuclei_are_told_apart_by_their_boundary() -> None:
    edge = boundary(squares().instances)
    assert edge[6, 7] == 1 and edge[6, 8] == 1 and edge[6, 5] == 0 and edge[0].sum() == 0


def test_distance_is_deepest_in_the_middle() -> None:
    depth = distance(squares().instances)
    assert depth[6, 4] == 1 and depth[4, 2] == pytest.approx(1 / 3) and depth[0, 0] == 0
    assert distance(np.zeros((8, 8), np.int32)).sum() == 0
    assert (distance(np.ones((8, 8), np.int32)) == 1).all()


def test_labels_are_resized_to_the_nearest() -> None:
    large = NuclearMask.untyped(np.kron(squares().instances, np.ones((5, 5), np.int32)))
    assert np.array_equal(resized_mask(large, 16).instances, squares().instances)
    up = resized_mask(squares(), 48)
    assert set(np.unique(up.instances)) == {0, 1, 2} and up.names == PANNUKE_TYPES


def test_another_aspect_is_refused_or_cropped() -> None:
    wide = NuclearMask.untyped(np.pad(squares().instances, ((0, 0), (3, 3))))
    with pytest.raises(ModelError, match="22 x 16 px") as caught:
        resized_mask(wide, 16)
    assert "crop" in caught.value.hint
    assert np.array_equal(resized_mask(wide, 16, "crop").instances, squares().instances)


def test_a_mask_of_another_size_is_no_condition() -> None:
    with pytest.raises(ModelError, match="control of 16 px"):
        mask_condition(squares(24), BOTH)


def test_types_that_the_control_does_not_know() -> None:
    known = ControlSpec(("neoplastic", "dead"), (), 16, BASE)
    with pytest.raises(ModelError, match="connective"):
        mask_condition(squares(), known)
    untyped = NuclearMask.untyped(squares().instances)
    with pytest.raises(ModelError, match="no nucleus types"):
        mask_condition(untyped, known)
    first = NuclearMask(squares().instances % 2, squares().types % 3, PANNUKE_TYPES)
    assert mask_condition(first, known)[0].sum() == 36


def test_a_control_takes_only_what_it_was_made_for() -> None:
    with pytest.raises(ModelError, match="masks only"):
        marker_condition(np.zeros((1, 16, 16), np.float32), TYPED)
    alone = ControlSpec((), ("dapi", "cd3"), 16, BASE)
    with pytest.raises(ModelError, match="fluorescence only"):
        mask_condition(squares(), alone)
    with pytest.raises(ModelError, match=r"1 markers.*takes 2: dapi, cd3"):
        marker_condition(np.zeros((1, 16, 16), np.float32), alone)


def test_each_marker_is_put_on_its_own_scale() -> None:
    rng = np.random.default_rng(1)
    markers = np.stack([rng.uniform(100, 300, (16, 16)), rng.uniform(0, 1e-3, (16, 16))])
    scaled = normalised(np.append(markers, np.full((1, 16, 16), 7.0), axis=0).astype(np.float32))
    assert scaled[:2].min() == 0 and scaled[:2].max() == 1
    assert scaled[:2].mean(axis=(1, 2)) == pytest.approx(0.5, abs=0.1)
    assert scaled[2].sum() == 0
    again = normalised((markers * 1000 + 5).astype(np.float32))
    assert np.abs(again - scaled[:2]).max() < 1e-2
    with pytest.raises(ModelError, match="not numbers"):
        normalised(np.full((1, 4, 4), np.nan, np.float32))


def test_fluorescence_in_its_forms(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    grey = rng.integers(60_000, size=(32, 32)).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    assert np.array_equal(read_markers(tmp_path / "grey.png")[0], grey)
    colour = rng.integers(255, size=(32, 32, 3)).astype(np.uint8)
    Image.fromarray(colour).save(tmp_path / "colour.png")
    assert np.array_equal(read_markers(tmp_path / "colour.png"), colour.transpose(2, 0, 1))
    Image.fromarray(np.repeat(colour[..., :1], 3, axis=2)).save(tmp_path / "same.png")
    assert read_markers(tmp_path / "same.png").shape == (1, 32, 32)
    pages = [Image.fromarray(grey), Image.fromarray(grey // 2)]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    assert read_markers(tmp_path / "stack.tif").shape == (2, 32, 32)
    condition = read_marker_condition(tmp_path / "grey.png", BOTH)
    assert condition[3].max() == 1 and condition[:3].abs().sum() == 0
    assert np.allclose(resized_markers(grey[None].astype(np.float32), 1)[0, 0, 0], grey.mean())


def test_damaged_fluorescence(tmp_path: Path) -> None:
    (tmp_path / "x.tif").write_bytes(b"II*\0rubbish")
    with pytest.raises(ModelError, match="cannot be read"):
        read_markers(tmp_path / "x.tif")
    with pytest.raises(ModelError, match="not a file"):
        read_markers(tmp_path / "y.tif")
    pages = [Image.new("L", (8, 8)), Image.new("L", (9, 9))]
    pages[0].save(tmp_path / "z.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(ModelError, match="differ in size"):
        read_markers(tmp_path / "z.tif")


def test_the_simulated_marker_lights_nuclei() -> None:
    marker = simulated_marker(squares().instances, np.random.default_rng(3))
    inside = squares().instances > 0
    assert marker[inside].mean() > 4 * marker[~inside].mean()


def test_a_folder_gives_its_conditions_by_name(tmp_path: Path) -> None:
    Image.fromarray(squares().instances.astype(np.uint16) * 9).save(tmp_path / "b.png")
    np.save(tmp_path / "a.npy", np.zeros((2, 16, 16, 6)))
    (tmp_path / "notes.txt").write_text("not a mask")
    found = read_conditions("mask", tmp_path, BOTH)
    assert [condition.name for condition in found] == ["a-0000", "a-0001", "b"]
    assert found[2].labels is not None and np.array_equal(found[2].labels, squares().instances)
    assert np.array_equal(found[2].planes, mask_condition(read_mask(tmp_path / "b.png"), BOTH))
    assert found[2].digest.startswith("sha256:") and found[2].digest != found[0].digest
    (marker,) = read_conditions("fluorescence", tmp_path / "b.png", BOTH)
    assert marker.labels is None and marker.planes[3].max() == 1


def test_a_folder_without_conditions(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no file that can be followed"):
        read_conditions("mask", tmp_path, BOTH)


def test_the_spec_is_kept_in_a_file(tmp_path: Path) -> None:
    TYPED.write(tmp_path)
    assert ControlSpec.read(tmp_path) == TYPED
    with pytest.raises(ModelError, match="no control"):
        ControlSpec.read(tmp_path / "absent")
    for text in ("", "[]", '{"format": 1}', '{"format": 2}', '{"format": 1, "types": 3}'):
        (tmp_path / "control.json").write_text(text)
        with pytest.raises(ModelError):
            ControlSpec.read(tmp_path)


def test_a_control_of_nothing() -> None:
    with pytest.raises(ModelError, match="types or markers"):
        ControlSpec((), (), 64, BASE)
    with pytest.raises(ModelError, match="4 px"):
        ControlSpec(UNTYPED, (), 4, BASE)
