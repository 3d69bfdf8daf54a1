"""The recipe: what a trial compares, who is promised what, and the whole once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from typer.testing import CliRunner

from craftsfl.cli import app
from craftsfl.model.augmenting.classes import OwnClass
from craftsfl.model.augmenting.done import AugmentRequest
from craftsfl.model.augmenting.drawing import DrawnClasses, joined_classes
from craftsfl.model.augmenting.models import drawn_by_base
from craftsfl.model.augmenting.page import helped_words
from craftsfl.model.augmenting.promises import promise_of
from craftsfl.model.augmenting.recipe import augment
from craftsfl.model.augmenting.trial import TrialMaterial, TrialRow, compare_kinds, final_heads
from model.generation.provenance import Drawing
from model.lab.augmentation.lessons import Labelled
from model.lab.tissue import HOSPITALS
from model.lab.tissue.domain import RARE_TYPES
from model.lab.tissue.imagefolder import write_site
from model.origin import Origin
from privacy.errors import ConfigError

BASE = Drawing(base="sha256:" + "0" * 64, steps=2, guidance=3.0, software="craftsfl")
ORIGIN = Origin("sha256:" + "0" * 64, "study", "0" * 64, "1", 50, 8.0, 1e-5)


def adapted(origin: Origin | None) -> Drawing:
    return Drawing(
        base=BASE.base,
        steps=2,
        guidance=3.0,
        software="craftsfl",
        adapter="sha256:" + "1" * 64,
        adapter_source="adapter.safetensors",
        origin=origin,
    )


def features(classes: list[int], apart: float, seed: int) -> Labelled:
    rng = np.random.default_rng(seed)
    found = rng.normal(size=(len(classes), 4)).astype(np.float32)
    found[:, 0] += apart * np.array(classes)
    return Labelled(found, np.array(classes))


def test_only_what_saw_no_real_tile_inherits_the_adapters_epsilon() -> None:
    inherited = promise_of("synthetic", adapted(ORIGIN))
    assert (inherited.inherits, inherited.epsilon, inherited.delta) == (True, 8.0, 1e-5)
    assert "epsilon at most 8 at delta 1e-05" in inherited.words
    for kind in ("real", "real-and-synthetic"):
        promise = promise_of(kind, adapted(ORIGIN))
        assert not promise.inherits
        assert promise.epsilon is None
        assert promise.words.startswith("NO PRIVACY PROMISE")


def test_no_promise_is_invented() -> None:
    unsaid, noiseless, base = (
        promise_of("synthetic", drawing)
        for drawing in (
            adapted(None),
            adapted(Origin(ORIGIN.base, "study", "0" * 64, "1", 50, None, 1e-5)),
            BASE,
        )
    )
    assert "unknown: its file does not say" in unsaid.words
    assert "which is none" in noiseless.words
    assert not base.inherits
    assert unsaid.epsilon is noiseless.epsilon is base.epsilon is None


def test_good_pictures_help_where_labels_are_few_and_every_class_has_a_row() -> None:
    classes = [0, 1, 2] * 20
    material = TrialMaterial(features(classes, 3, 0), np.arange(60), features([0, 1, 2] * 16, 3, 1))
    rows = compare_kinds(
        material, ["a", "b", "c"], folds=4, shares=(0.05, 1.0), amounts=(4, 16), seed=0
    )
    few = [row for row in rows if row.share == 0.05]
    whole = [row for row in few if row.label is None]
    assert [(row.arm, row.amount) for row in whole] == [
        ("real", 0),
        ("real-and-synthetic", 4),
        ("synthetic", 4),
        ("real-and-synthetic", 16),
        ("synthetic", 16),
    ]
    assert whole[3].gain_low is not None
    assert whole[3].gain_low > 0
    assert {row.label for row in few} == {None, "a", "b", "c"}
    assert set(final_heads(material)) == {"real", "real-and-synthetic", "synthetic"}


def test_without_pictures_there_is_no_synthetic_classifier() -> None:
    empty = Labelled(np.empty((0, 4), np.float32), np.empty(0, np.int64))
    material = TrialMaterial(features([0, 1] * 8, 3, 0), np.arange(16), empty)
    assert set(final_heads(material)) == {"real"}
    rows = compare_kinds(material, ["a", "b"], folds=2, shares=(1.0,), amounts=(4,), seed=0)
    assert {row.arm for row in rows} == {"real"}
    one = Labelled(np.zeros((2, 4), np.float32), np.array([1, 1]))
    some = TrialMaterial(material.real, material.patients, one)
    rows = compare_kinds(some, ["a", "b"], folds=2, shares=(1.0,), amounts=(4,), seed=0)
    assert {row.arm for row in rows} == {"real", "real-and-synthetic"}


@pytest.mark.parametrize(
    "wrong", [{"folds": 1}, {"target": 0}, {"shares": ()}, {"shares": (0.0,)}, {"shares": (2.0,)}]
)
def test_options_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        AugmentRequest(Path("tiles"), Path("out"), **wrong).check()  # type: ignore[arg-type]


def row(amount: int, gain: tuple[float, float, float], label: str | None = None) -> TrialRow:
    return TrialRow(0.25, "real-and-synthetic", amount, label, 0.8, 0.7, 0.9, *gain)


NOTHING = np.zeros((1, 2, 2, 3), np.uint8)
BETTER, WORSE, UNSURE = (0.2, 0.1, 0.3), (-0.2, -0.3, -0.1), (0.1, -0.1, 0.3)


@pytest.mark.parametrize(
    ("gains", "words"),
    [
        ((BETTER, BETTER), "help from 8 a class on, the fewest that were tried"),
        ((UNSURE, BETTER), "help from 32 a class on (tried: 8 and 32 a class)"),
        ((BETTER, UNSURE), "helped with 8 a class, but not surely with 32."),
        ((BETTER, WORSE), "helped with 8 a class, and did harm with 32."),
        ((UNSURE, UNSURE), "made no difference that these patients could show"),
        ((UNSURE, WORSE), "do not help, and do harm with 32 a class"),
    ],
)
def test_from_which_amount_it_helps_is_said_in_words(
    gains: tuple[tuple[float, float, float], ...], words: str
) -> None:
    rows = [row(amount, gain) for amount, gain in zip((8, 32), gains, strict=True)]
    (said,) = helped_words([*rows, row(32, UNSURE, "a")])
    assert said.startswith("With 25% of the patients labelled, synthetic pictures ")
    assert words in said
    assert f"With 32, balanced accuracy changed by {gains[-1][0]:+.2f}" in said


def test_classes_by_themselves_are_named() -> None:
    said = list(helped_words([row(8, UNSURE), row(8, BETTER, "a"), row(8, WORSE, "<b>")]))
    assert said[1:] == [
        "Of the classes by themselves they helped a (+0.20).",
        "Of the classes by themselves they did harm to <b> (-0.20).",
    ]
    nothing = [TrialRow(1.0, "real", 0, None, 0.8, 0.7, 0.9)]
    assert "could not be tried: none passed" in next(helped_words(nothing))


def test_the_base_may_draw_some_classes_and_the_promise_says_which() -> None:
    classes = [OwnClass(label, "", (f"{label}.",), 4, 4) for label in ("benign", "rare")]
    assert drawn_by_base(classes, ["benign"]) == {0}
    for labels, words in ((["bening"], "Did you mean benign"), (["benign", "rare"], "Leave")):
        with pytest.raises(ConfigError) as caught:
            drawn_by_base(classes, labels)
        assert words in caught.value.hint
    with pytest.raises(ConfigError, match="without an adapter"):
        AugmentRequest(Path("tiles"), Path("out"), base_for=("a",)).check()
    promise = promise_of("synthetic", adapted(ORIGIN), ["benign"])
    assert promise.epsilon == 8.0
    assert promise.words.endswith(
        "Pictures of benign are by the base alone: no study's patient is in them."
    )
    parts = [
        DrawnClasses(
            np.zeros((1, 2, 2, 3), np.uint8), np.array([number]), (f"{number}.png",), drawn
        )
        for number, drawn in enumerate(((3, 0), (0, 5)))
    ]
    whole = joined_classes(parts)
    assert (whole.drawn, whole.kept(), whole.files) == ((3, 5), (1, 1), ("0.png", "1.png"))


@pytest.mark.slow
def test_the_whole_recipe_on_drawn_tissue(tmp_path: Path, private_cache: object) -> None:
    rare = [RARE_TYPES[number] for number in (2, 5, 6)]
    tiles, out = tmp_path / "tiles", tmp_path / "out"
    write_site(
        tiles,
        site="north",
        patients=18,
        most_tiles=2,
        appearance=HOSPITALS["north"],
        seed=9,
        rare=rare,
    )
    asked = ["model", "augment", str(tiles), "--out", str(out), "--target", "2", "--most", "1"]
    asked += ["--steps", "2", "--folds", "3", "--share", "0.25"]
    first = CliRunner().invoke(app, asked)
    assert first.exit_code == 0, first.output
    assert "classifier-real.safetensors: NO PRIVACY PROMISE" in first.output
    recipe = json.loads((out / "recipe.json").read_text())
    assert [own["label"] for own in recipe["classes"]] == sorted(kind.name for kind in rare)
    assert {row["share"] for row in recipe["figures"]} == {0.25, 1.0}
    assert all(own["drawn"] == 2 for own in recipe["classes"])
    assert (out / "recipe.json").stat().st_mode & 0o077 == 0
    with safe_open(out / "classifier-real.safetensors", "np") as file:
        assert "NO PRIVACY PROMISE" in file.metadata()["privacy"]
    page = (out / "augmentation.html").read_text()
    assert "north-0000" not in page
    assert CliRunner().invoke(app, asked).exit_code != 0  # a finished recipe is not overwritten


@pytest.mark.slow
def test_the_encoder_does_not_judge_its_own_pictures(tmp_path: Path) -> None:
    rare = [RARE_TYPES[number] for number in (2, 5)]
    look = HOSPITALS["north"]
    write_site(tmp_path, site="north", patients=8, most_tiles=2, appearance=look, seed=9, rare=rare)
    request = AugmentRequest(tmp_path, tmp_path / "out", judge="tiny", ids_confirmed=True)
    with pytest.raises(ConfigError, match="is also the encoder"):
        augment(request, lambda *_: None)
    assert not request.out.exists()
