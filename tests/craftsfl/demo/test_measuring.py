"""`craftsfl demo --references`: every arm is really trained and measured, in a small form."""

from __future__ import annotations

from pathlib import Path

import pytest

from craftsfl.demo import figures, measuring, studies, tiles
from craftsfl.demo.figures import differences, read_references, referred_study
from craftsfl.demo.run import measure_once
from craftsfl.demo.tiles import Synthetic, TileMaker, are_made, make_tiles
from model.cache import install_base, shipped_base
from privacy.errors import ConfigError

SMALL = {name: Synthetic(name, 6, seed) for seed, name in enumerate(tiles.SYNTHETIC_HOSPITALS)}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three hospitals of six patients, three held out at each, two steps."""
    for module in (tiles, figures):
        monkeypatch.setattr(module, "SYNTHETIC_HOSPITALS", SMALL)
        monkeypatch.setattr(module, "HELD_OUT_PATIENTS", 3)
    monkeypatch.setattr(studies, "_STEPS", 2)
    for module in (figures, measuring):
        monkeypatch.setattr(module, "MEASURED_TILES", 9)
        monkeypatch.setattr(module, "MEASURED_IMAGES", 4)


@pytest.mark.slow
def test_every_arm_is_trained_and_measured(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = shipped_base()
    assert base is not None
    for name in SMALL:  # other processes would know nothing of the small form
        make_tiles(tmp_path, name)
    monkeypatch.setattr(measuring, "check_ours", lambda folder: None)

    def here(folder: Path, study: object, say: object) -> dict[str, dict[float, object]]:
        trainings = [
            measuring._Training(folder, study, arm, rate)  # type: ignore[arg-type]
            for arm, rate in (("noise-off", 0.06), ("noise-off", 0.12), ("alone", 0.06))
        ]
        found: dict[str, dict[float, object]] = {"noise-off": {}, "alone": {}}
        for one in trainings:
            found[one.arm][one.rate] = one.run()
        return found

    monkeypatch.setattr(measuring, "_all_trained", here)
    file = tmp_path / "references.json"
    digest = install_base(base)
    found = measuring.measure_references(tmp_path, file, digest, lambda words: None)
    assert read_references(file) == found
    assert differences(found, referred_study(digest)) == []
    off, alone = found.arms["noise-off"], found.arms["alone"]
    assert set(off.tried) == {"0.06", "0.12"}
    assert off.tried[f"{off.rate:g}"] == min(off.tried.values())
    assert (off.patients, alone.patients) == (18, 6)
    assert off.loss.patients == 9
    assert off.obedience.patients == 4
    assert off.loss.base == alone.loss.base > 0  # of the same base, on the same tiles
    assert off.loss.change not in (0, alone.loss.change)


def test_a_file_that_cannot_be_written_is_told_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a folder"):
        measure_once(tmp_path, tmp_path / "nowhere" / "references.json")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter").touch()
    with pytest.raises(ConfigError, match="no earlier demo made it"):
        measure_once(tmp_path / "mine", tmp_path / "references.json")


def test_tiles_that_are_there_take_no_process(small: None, tmp_path: Path) -> None:
    for name in SMALL:
        for folder in (tiles.data_folder(tmp_path, name), tiles.held_out_folder(tmp_path, name)):
            assert not are_made(tmp_path, name)
            folder.mkdir(parents=True)
            (folder / tiles.COMPLETE).touch()
        assert are_made(tmp_path, name)
    maker = TileMaker(tmp_path, tmp_path)
    maker.wait(lambda: pytest.fail("nothing to wait for"))
    maker.close()
    assert not list(tmp_path.glob("*.log"))
