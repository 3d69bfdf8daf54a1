"""A released generator against the site's own tiles: copies are seen, and new patients are none."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from client.data import load_site_data, read_tile
from client.patients import open_patients
from client.settings import load_site
from craftsfl.cli import app
from craftsfl.site.memorisation import run
from craftsfl.site.memorisation.comparison import CopyComparison
from craftsfl.site.memorisation.run import (
    KEEP_HERE,
    compare_all,
    load_local,
    read_own_tiles,
    worst_verdict,
)
from model.adapter_file import save_adapter
from model.adapters import layout_of
from model.lab.evaluation.encode import EncoderSpace, PixelSpace
from model.lab.evaluation.figures import ImageSet
from model.lab.evaluation.memorisation import symmetries
from model.lab.tissue import HOSPITALS
from model.lab.tissue.imagefolder import write_site
from model.quality.alignment import TooFewError
from tests.client.hospital import write_hospital
from tests.client.pictures import write_folder
from tests.client.studies import study_of

KIND = next(iter(HOSPITALS))


def site(folder: Path, seed: int, patients: int = 30) -> ImageSet:
    write_site(
        folder, site=KIND, patients=patients, most_tiles=2, appearance=HOSPITALS[KIND], seed=seed
    )
    tiles = load_site_data(folder).tiles
    return ImageSet(
        np.stack([read_tile(tile.path, 32) for tile in tiles]),
        tuple(tile.caption for tile in tiles),
        np.array([tile.patient for tile in tiles], np.int64),
    )


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return site(tmp_path_factory.mktemp("own"), 1)


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return site(tmp_path_factory.mktemp("new"), 2)


def copies_of(tiles: ImageSet) -> ImageSet:
    """Each turned or mirrored in its own way, with a little noise."""
    random = np.random.default_rng(0)
    ways = random.integers(8, size=len(tiles))
    turned = symmetries(tiles.images)[ways, np.arange(len(tiles))]
    noisy = np.clip(turned + random.normal(0, 6, turned.shape), 0, 255).astype(np.uint8)
    return dataclasses.replace(tiles, images=noisy)


def found_in(tiles: ImageSet, pictures: ImageSet) -> CopyComparison:
    (found,) = compare_all([PixelSpace()], tiles, pictures, 0)
    return found


def test_turned_copies_are_seen_in_both_spaces(own: ImageSet) -> None:
    spaces = [EncoderSpace(load_local("tiny-evaluator")), PixelSpace()]
    for found in compare_all(spaces, own, copies_of(own), 0):
        assert found.verdict == "copies", found
        assert found.generated.value > 0.5


def test_tiles_of_new_patients_are_no_copies(own: ImageSet, new: ImageSet) -> None:
    found = found_in(own, new)
    assert found.verdict == "no sign"
    assert found.generated.value <= found.new_patients.high
    assert found.new_patients.high >= 1 - 0.025 ** (1 / 30)


def test_one_copy_among_many_pictures_is_pointed_at(own: ImageSet, new: ImageSet) -> None:
    images = new.images.copy()
    images[7] = copies_of(own).images[3]
    found = found_in(own, dataclasses.replace(new, images=images))
    assert found.verdict == "look"
    assert (found.closest[0].picture, found.closest[0].tile) == (7, 3)


def test_a_patients_own_tiles_do_not_make_it_new(own: ImageSet) -> None:
    """Each patient's tiles twice, as a slide has neighbours: nobody is a copy of another."""
    twice = ImageSet(
        np.concatenate([own.images, own.images]),
        own.captions * 2,
        np.concatenate([own.patients, own.patients]),
    )
    once, again = found_in(own, own), found_in(twice, own)
    assert again.new_patients.value == once.new_patients.value
    assert again.least_new == once.least_new


def test_the_worst_space_counts(own: ImageSet, new: ImageSet) -> None:
    good, bad = found_in(own, new), found_in(own, copies_of(own))
    assert worst_verdict([good, bad]) == "copies"
    assert worst_verdict([good]) == "no sign"


def test_too_few_say_so(own: ImageSet, tmp_path: Path) -> None:
    few = own.chosen(np.flatnonzero(own.patients < 9))
    with pytest.raises(TooFewError, match="9 patients"):
        found_in(few, own)
    with pytest.raises(TooFewError, match="19 pictures"):
        found_in(own, own.chosen(np.arange(19)))


def test_merged_ids_are_one_patient_and_who_withdrew_is_among_them(tmp_path: Path) -> None:
    settings = load_site(write_hospital(tmp_path))
    apart = read_own_tiles(settings, 16, 1000, 0).images
    state = settings.agent.state
    state.mkdir(mode=0o700)
    with open_patients(state) as patients:
        ids: list[str] = []
        load_site_data(
            settings.data.folder,
            lines_of=lambda tiles: (
                ids.extend(name for name, _ in tiles) or patients.lines_of(tiles)
            ),
        )
        one, other, third = (patients.key.line(name) for name in sorted(set(ids))[:3])
        patients.register.merge(one, other)
        patients.register.withdraw(third)
    joined = read_own_tiles(settings, 16, 1000, 0).images
    assert len(joined) == len(apart)
    assert len(np.unique(joined.patients)) == len(np.unique(apart.patients)) - 1
    assert len(read_own_tiles(settings, 16, 5, 0).images) == 5


@pytest.fixture
def released(tmp_path: Path, tinier_base: Path) -> tuple[Path, Path]:
    """A hospital's site.toml, and an adapter of its study."""
    study = study_of(tinier_base)
    settings = write_hospital(tmp_path, study=study)
    write_folder(tmp_path / "tiles", patients=12)
    layout = layout_of(tinier_base, study.adapter)
    adapter = tmp_path / "adapter.safetensors"
    save_adapter(adapter, layout, np.zeros(layout.parameters, np.float32), study.adapter)
    return settings, adapter


def test_the_verdict_is_for_its_owner_alone(released: tuple[Path, Path], tmp_path: Path) -> None:
    settings, adapter = released
    out = tmp_path / "verdict.json"
    asked = ["site", "memorisation", str(settings), "--adapter", str(adapter), "--out", str(out)]
    result = CliRunner().invoke(app, [*asked, "--pictures", "20"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert out.stat().st_mode & 0o777 == 0o600
    values = json.loads(out.read_text())
    assert values["verdict"] in run._MEANING
    assert values["keep_here"] == KEEP_HERE
    assert (values["pictures"], values["patients"]) == (20, 12)
    assert [one["space"] for one in values["spaces"]] == ["tiny-evaluator", "pixels"]
    shown = result.output.replace("\n", " ")
    assert "Show it to nobody outside this site" in shown
    for one in values["spaces"]:
        for pair in one["closest"]:
            assert pair["tile"] not in result.output
            assert pair["prompt"] not in result.output
    again = CliRunner().invoke(app, [*asked, "--pictures", "20"])
    assert again.exit_code != 0
    assert "exists" in str(again.exception)
