"""The demo's folder: valid settings for every role, nothing of the user's lost."""

from __future__ import annotations

import csv
import stat
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from client.agent.startup import load
from client.policy import SiteRules
from client.settings import load_policy, load_site
from craftsfl.demo import tiles
from craftsfl.demo.hospitals import real_members
from craftsfl.demo.pace import LONGEST, SHORTEST, slot_for
from craftsfl.demo.studies import DemoMode
from craftsfl.demo.tiles import RARE_CANCERS, SYNTHETIC_HOSPITALS, held_out_folder
from craftsfl.demo.workspace import (
    DemoOptions,
    check_ours,
    clear_folder,
    declare,
    write_workspace,
)
from craftsfl.rounds.operator import superlink_of
from model.cache import shipped_base
from privacy.accounting import epsilon
from privacy.budget import Book, cannot_end
from privacy.errors import ConfigError, DataError
from privacy.secagg.encoding import Encoding
from privacy.study.agreement import roster_in_force, shares_of, terms_of
from privacy.study.terms import whole_schedule
from server.own_key import coordinator_key
from server.settings import load_consortium
from tests.craftsfl.demo.drafts import DIGEST, drafts

MODES: tuple[DemoMode, ...] = get_args(DemoMode)


@pytest.mark.parametrize("mode", MODES)
def test_every_role_gets_settings_that_its_own_code_accepts(tmp_path: Path, mode: DemoMode) -> None:
    folder = tmp_path / "demo"
    clear_folder(folder)
    made = write_workspace(DemoOptions(folder, mode=mode), drafts(tmp_path), DIGEST, port=12345)
    slot = made.study.cohort.reply_slot
    assert slot >= SHORTEST
    assert made.study.pools_noise == (mode == "pooled")
    own = coordinator_key(load_consortium(made.consortium).coordinator_key, made.study)
    assert (own is not None) == (mode == "pooled")
    link = superlink_of(load_consortium(made.consortium))
    assert link.address == "127.0.0.1:12345"
    assert load_consortium(made.consortium).study == made.study_file
    assert stat.S_IMODE(link.secret.stat().st_mode) == 0o600
    for hospital in made.hospitals:
        site = load_site(hospital.settings)
        loaded = load(hospital.settings)
        assert loaded.membership.roster.member_named(hospital.name) is not None
        rules = SiteRules(site.name, made.study, load_policy(site.policy))
        rules.check()
        assert rules.policy.min_reply_slot == slot
        assert "THIS IS A DEMO" in site.policy.read_text()
        assert rules.declared_patients == hospital.declared_patients
        assert site.socket_path() == hospital.socket
        assert site.gateway is not None
        assert site.gateway.root_certificates == link.credentials.authority
    roster = load_consortium(made.consortium).roster
    assert roster is not None
    assert roster_in_force(made.study, roster) == loaded.membership.roster
    made.runtime.rmdir()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("rounds", [None, 1, 20])
def test_the_whole_study_fits_into_each_hospitals_budget(
    tmp_path: Path, rounds: int | None, mode: DemoMode
) -> None:
    options = DemoOptions(tmp_path / "demo", rounds=rounds, mode=mode)
    clear_folder(options.folder)
    made = write_workspace(options, drafts(tmp_path), DIGEST, 12345, SHORTEST)
    policy = load_policy(load_site(made.hospitals[0].settings).policy)
    spent = epsilon(whole_schedule(made.study), made.study.privacy.delta)  # with every attempt
    assert 0.9 * policy.epsilon < spent <= policy.epsilon
    for hospital in made.hospitals:
        rules = load(hospital.settings).rules
        assert (
            cannot_end(rules.charges, Book().allowance(rules.limits, rules.charges.charge)) is None
        )
    made.runtime.rmdir()


def test_an_earlier_demo_is_kept_and_its_tiles_stay(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    clear_folder(folder)
    (folder / "data").mkdir()
    (folder / "summary.json").write_text("{}")
    clear_folder(folder)
    assert (folder / "data").is_dir()
    assert not (folder / "summary.json").exists()
    (kept,) = (folder / "earlier").glob("*/summary.json")
    assert kept.read_text() == "{}"


@pytest.mark.parametrize("make", [Path.touch, lambda path: (path / "x").mkdir(parents=True)])
def test_what_is_not_ours_is_refused(tmp_path: Path, make: object) -> None:
    target = tmp_path / "mine"
    make(target)  # type: ignore[operator]
    with pytest.raises(ConfigError, match="--dir"):
        check_ours(target)


def test_declared_sizes_are_rounded_and_never_far_off() -> None:
    for patients in range(1, 200):
        declared = declare(patients)
        assert declared % (10 if patients >= 10 else 2) == 0
        assert patients <= declared <= 2 * patients


def hospital(folder: Path, header: str = "file_name,text,patient_id", rows: int = 3) -> None:
    from PIL import Image

    folder.mkdir(parents=True)
    lines = [header]
    for number in range(rows):
        Image.new("RGB", (64, 64), (200, 10 * number, 150)).save(folder / f"{number}.png")
        lines.append(f"{number}.png,a caption,p{number}")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")


def test_sub_folders_become_hospitals(tmp_path: Path) -> None:
    hospital(tmp_path / "St. Mary")
    hospital(tmp_path / "north")
    hospital(tmp_path / "south")
    found = real_members(tmp_path)
    assert [(m.name, m.declared_patients) for m in found] == [
        ("st--mary", 4),
        ("north", 4),
        ("south", 4),
    ]


def test_two_hospitals_with_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("North", "north", "south"):
        hospital(tmp_path / name)
    with pytest.raises(ConfigError, match="would both be called north"):
        real_members(tmp_path)


def test_a_folder_without_patient_ids_is_refused_with_the_fix(tmp_path: Path) -> None:
    hospital(tmp_path / "a", header="file_name,text,who")
    hospital(tmp_path / "b")
    hospital(tmp_path / "c")
    with pytest.raises(DataError, match="patient_id"):
        real_members(tmp_path)


@pytest.mark.parametrize("hospitals", [1, 2])
def test_two_hospitals_are_no_federation(tmp_path: Path, hospitals: int) -> None:
    for number in range(hospitals):
        hospital(tmp_path / f"h{number}")
    with pytest.raises(ConfigError, match=f"has {hospitals} sub-folders; .* needs 3 hospitals"):
        real_members(tmp_path)


def test_an_update_of_the_demo_fits_its_grid(tmp_path: Path) -> None:
    """Of noised updates, which move every parameter as far as Adam goes, next to none is cut."""
    options = DemoOptions(tmp_path / "demo", mode="threshold")
    clear_folder(options.folder)
    made = write_workspace(options, drafts(tmp_path), DIGEST, 12345, SHORTEST)
    made.runtime.rmdir()
    training = made.study.training
    share = max(shares_of(made.study).values())
    moved = np.random.default_rng(1).choice([-1.0, 1.0], 20_000)
    update = (share * training.steps * training.learning_rate * moved).astype(np.float32)
    terms = terms_of(made.study, update.size)
    encoding = Encoding(update.size, 3, terms.bits, terms.bound, bytes(32))
    decoded = encoding.decode_sum(encoding.encode(update), 1)
    assert np.linalg.norm(decoded - update) < 1e-3 * np.linalg.norm(update)


@pytest.mark.parametrize(
    ("mode", "declared", "probe", "slot"),
    [
        ("threshold", 1300, 0.23, 80.0),  # 1,950 are drawn in six steps
        ("threshold", 1040, 0.1, 30.0),
        ("threshold", 1300, 0.01, 15.0),
        ("threshold", 1300, 0.5, 175.0),
        ("threshold", 1_000_000, 1.0, LONGEST),
        ("pooled", 510, 0.08, SHORTEST),
        ("pooled", 510, 0.11, 4.0),
        ("pooled", 510, 0.2, 7.0),
        ("pooled", 510, 0.01, SHORTEST),
        ("pooled", 26, 0.1, SHORTEST),
        ("pooled", 1_000_000, 1.0, LONGEST),
    ],
)
def test_a_slower_machine_gets_a_longer_slot(
    mode: DemoMode, declared: int, probe: float, slot: float
) -> None:
    assert slot_for(mode, declared, probe) == slot


def test_a_processor_for_bfloat16_needs_a_shorter_slot() -> None:
    assert slot_for("pooled", 510, 0.1, bfloat16=True) == SHORTEST
    assert slot_for("pooled", 510, 0.2, bfloat16=True) == 5.0


def test_the_study_counts_the_parameters_of_the_shipped_base(tmp_path: Path) -> None:
    from model.adapters import layout_of

    options = DemoOptions(tmp_path / "demo")
    clear_folder(options.folder)
    made = write_workspace(options, drafts(tmp_path), DIGEST, 12345, SHORTEST)
    made.runtime.rmdir()
    base = shipped_base()
    assert base is not None
    assert made.study.pooled is not None
    assert layout_of(base, made.study.adapter).parameters == made.study.pooled.parameters


def test_the_demos_cancers_are_the_domains_and_each_hospital_sees_all_of_them() -> None:
    from model.lab.tissue.domain import RARE_TYPES
    from model.lab.tissue.imagefolder import rare_caption

    assert set(RARE_CANCERS) <= {rare_caption(rare) for rare in RARE_TYPES}
    assert all(item.patients >= len(RARE_CANCERS) for item in SYNTHETIC_HOSPITALS.values())


def test_the_patients_of_the_demo_have_cancers_that_the_base_has_never_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(tiles.SYNTHETIC_HOSPITALS, "north", tiles.Synthetic("north", 6, 1))
    monkeypatch.setattr(tiles, "HELD_OUT_PATIENTS", 6)
    tiles.make_tiles(tmp_path, "north")
    for folder in (tiles.data_folder(tmp_path, "north"), held_out_folder(tmp_path, "north")):
        with (folder / "metadata.csv").open(newline="", encoding="utf-8") as table:
            assert {row["text"] for row in csv.DictReader(table)} == set(RARE_CANCERS)
