"""The control network: from a base, to a folder and back; training; samples follow their masks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from model.adapters import attach, detach, read_vector, write_vector
from model.base import Pipeline, load_base
from model.lab.control import training
from model.lab.control.conditions import mask_condition
from model.lab.control.drawn import draw_pairs
from model.lab.control.guided import Guided, control_pipeline, sample_controlled
from model.lab.control.network import (
    check_fits,
    find_control,
    load_control,
    make_control_network,
    save_control,
    spec_for,
)
from model.lab.control.pairs import divided, listed, read_pair_folder
from model.lab.control.recipe import ControlRecipe, PublicFolder
from model.lab.control.spec import UNTYPED
from model.lab.control.training import pretrain_control
from model.lab.control.trial import TrialSettings, drawn_cases, file_cases, picture, run_trial
from model.sampling import sample
from privacy.errors import ModelError
from privacy.study.manifest import Adapter

WEIGHTS = Path(__file__).parents[4] / "weights"
TINY, CONTROL = WEIGHTS / "tiny", WEIGHTS / "tiny-control"
BASE = "sha256:" + "0" * 64
ADAPTER = Adapter(rank=2, alpha=2.0, targets=("attn2.to_v", "attn2.to_out.0"))
pytestmark = [
    pytest.mark.slow,  # the laboratory: nothing of it is shipped to a hospital
    pytest.mark.skipif(not TINY.is_dir(), reason="weights/tiny is not checked out"),
]
needs_control = pytest.mark.skipif(not CONTROL.is_dir(), reason="weights/tiny-control is not here")


def ignore(stage: str, step: int, steps: int) -> None:
    del stage, step, steps


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return load_base(TINY)


def drawn(count: int) -> torch.Tensor:
    spec = load_control(CONTROL).spec
    pairs = draw_pairs(1, count, free_share=0.0)
    return torch.stack([mask_condition(pair.mask, spec) for pair in pairs])


def test_an_untrained_control_changes_nothing(pipeline: Pipeline, tmp_path: Path) -> None:
    spec = spec_for(pipeline, UNTYPED, ("dapi",), BASE)
    assert spec.size == 64 and spec.channels == 4
    save_control(make_control_network(pipeline, spec), spec, tmp_path)
    control = load_control(tmp_path)
    assert control.spec == spec and control.digest.startswith("sha256:")
    conditions = torch.rand(1, 4, 64, 64)
    guided = Guided(["fibrous stroma"], [3], conditions, steps=3)
    (with_control,) = sample_controlled(pipeline, control, guided)
    (without,) = sample(pipeline, ["fibrous stroma"], [3], steps=3)
    difference = np.asarray(with_control, int) - np.asarray(without, int)
    assert np.abs(difference).max() <= 1


def test_the_embedding_halves_as_often_as_the_autoencoder(pipeline: Pipeline) -> None:
    network = make_control_network(pipeline, spec_for(pipeline, UNTYPED, (), BASE))
    assert tuple(network.config.conditioning_embedding_out_channels) == (16, 32, 64)
    embedded = network.controlnet_cond_embedding(torch.zeros(1, 3, 64, 64))
    assert embedded.shape[-2:] == (16, 16)


def test_a_control_starts_from_a_bare_unet(pipeline: Pipeline) -> None:
    attach(pipeline.unet, ADAPTER)
    try:
        with pytest.raises(ModelError, match="adapter"):
            make_control_network(pipeline, spec_for(pipeline, UNTYPED, (), BASE))
    finally:
        detach(pipeline.unet)


def test_folders_that_hold_no_control(pipeline: Pipeline, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no control"):
        load_control(tmp_path)
    with pytest.raises(ModelError, match="is not here"):
        find_control(str(tmp_path / "absent"))
    spec = spec_for(pipeline, UNTYPED, (), BASE)
    save_control(make_control_network(pipeline, spec), spec, tmp_path)
    replace(spec, markers=("dapi",)).write(tmp_path)
    with pytest.raises(ModelError, match="takes 3 channels"):
        load_control(tmp_path)
    weights = tmp_path / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_control(tmp_path)
    weights.unlink()
    with pytest.raises(ModelError, match="has no diffusion"):
        load_control(tmp_path)


@needs_control
def test_a_control_of_another_base_is_refused(pipeline: Pipeline) -> None:
    control = load_control(CONTROL)
    control.network.register_to_config(cross_attention_dim=768)
    with pytest.raises(ModelError, match="cross_attention_dim is 768, the base's 96"):
        check_fits(pipeline, control)
    larger = replace(load_control(CONTROL), spec=replace(control.spec, size=512))
    with pytest.raises(ModelError, match="512 px"):
        control_pipeline(pipeline, larger)


@needs_control
def test_prompts_seeds_and_conditions_must_match(pipeline: Pipeline) -> None:
    with pytest.raises(ModelError, match="2 prompts, 1 seeds and 1 conditions"):
        Guided(["a", "b"], [1], drawn(1))
    with pytest.raises(ModelError, match=r"\[n, 4, 64, 64\]"):
        guided = Guided(["a"], [1], torch.zeros(1, 3, 64, 64))
        sample_controlled(pipeline, load_control(CONTROL), guided)


def controlled_images(pipeline: Pipeline, strength: float = 1.0) -> np.ndarray:
    guided = Guided(["solid nests"] * 2, [1, 2], drawn(2), steps=2, strength=strength)
    images = sample_controlled(pipeline, load_control(CONTROL), guided)
    return np.stack([np.asarray(image, int) for image in images])


@needs_control
def test_an_adapter_acts_under_a_control_and_keeps_its_layout() -> None:
    pipeline = load_base(TINY)
    layout = attach(pipeline.unet, ADAPTER)
    before = controlled_images(pipeline)
    zero = read_vector(pipeline.unet, layout)
    vector = np.random.default_rng(1).normal(0, 0.7, zero.shape).astype(np.float32)
    write_vector(pipeline.unet, layout, vector)
    assert np.abs(controlled_images(pipeline) - before).max() > 8
    assert attach(pipeline.unet, ADAPTER).fingerprint() == layout.fingerprint()
    assert np.array_equal(read_vector(pipeline.unet, layout), vector)
    detach(pipeline.unet)
    assert np.abs(controlled_images(pipeline) - before).max() <= 1


@needs_control
def test_strength_zero_is_the_base_alone(pipeline: Pipeline) -> None:
    alone = sample(pipeline, ["solid nests"] * 2, [1, 2], steps=2)
    plain = np.stack([np.asarray(image, int) for image in alone])
    assert np.abs(controlled_images(pipeline, strength=0.0) - plain).max() <= 1
    assert np.abs(controlled_images(pipeline) - plain).max() > 30


@needs_control
@pytest.mark.parametrize("kind", ["mask", "fluorescence"])
def test_samples_follow_their_conditions(pipeline: Pipeline, kind: training.ConditionKind) -> None:
    control = load_control(CONTROL)
    chosen = ("glands", "solid_nests", "single_files")
    cases = [case for case in drawn_cases(control.spec, kind, 2, seed=3) if case.group in chosen]
    trial = run_trial(pipeline, control, cases, TrialSettings(steps=8))
    own, shuffled = (trial.fidelity.estimates[name]["dice"].mean for name in ("own", "shuffled"))
    assert own > 0.6 and own - shuffled > 0.25
    assert trial.fidelity.estimates["own - shuffled"]["dice"].low > 0.1
    assert picture(trial, range(6)).width > 3 * 192


@needs_control
def test_the_shipped_control_is_small_and_has_its_card() -> None:
    assert sum(path.stat().st_size for path in CONTROL.iterdir()) < 4_000_000
    weights = load_file(CONTROL / "diffusion_pytorch_model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float16}
    card = (CONTROL / "README.md").read_text()
    assert "own - shuffled" in card and "not for any medical use" in card.replace("\n", " ")


def test_one_training_step_moves_the_control_and_not_the_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.lab.control.trial.MORPHOLOGIES", ("glands",))
    recipe = replace(ControlRecipe.smoke(), tiles=12, steps=2, checkpoint_every=1, trial=2)
    steps: list[tuple[str, int, int]] = []
    spec = pretrain_control(tmp_path, TINY, recipe, lambda *step: steps.append(step))
    assert steps == [("control", 1, 2), ("control", 2, 2)]
    trained = load_control(tmp_path).network.state_dict()
    fresh = make_control_network(load_base(TINY), spec).half().float().state_dict()
    moved = [name for name, value in trained.items() if not torch.equal(value, fresh[name])]
    assert any("controlnet_down_blocks" in name for name in moved)
    assert any("controlnet_cond_embedding" in name for name in moved)
    assert "Conditioned on fluorescence" in (tmp_path / "README.md").read_text()
    assert not (tmp_path / ".checkpoints").exists()


@pytest.mark.slow
def test_a_killed_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "_measure", lambda *_: {})
    recipe = replace(ControlRecipe.smoke(), tiles=8, steps=2, checkpoint_every=1)
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    pretrain_control(whole, TINY, recipe, ignore)

    def kill(stage: str, step: int, steps: int) -> None:
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain_control(halves, TINY, recipe, kill)
    for other in (replace(recipe, steps=3), replace(recipe, seed=1)):
        with pytest.raises(ModelError, match=r"other values of (seed|steps)"):
            pretrain_control(halves, TINY, other, ignore)
    seen: list[int] = []
    pretrain_control(halves, TINY, recipe, lambda _, step, __: seen.append(step))
    assert seen == [2]
    assert load_control(halves).digest == load_control(whole).digest


def public(folder: Path, count: int = 4, header: str = "file_name,text") -> PublicFolder:
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    rows = [header]
    for number, pair in enumerate(draw_pairs(9, count, free_share=0.0)):
        wide = np.concatenate([pair.image, pair.image], axis=1)
        labels = np.concatenate([pair.mask.instances, pair.mask.instances], axis=1)
        Image.fromarray(wide).save(folder / "images" / f"{number}.png")
        Image.fromarray(labels.astype(np.uint16)).save(folder / "masks" / f"{number}.png")
        rows.append(f"images/{number}.png,caption {number}")
    (folder / "metadata.csv").write_text("\n".join(rows))
    return PublicFolder(folder, crops=3)


def test_a_public_folder_gives_squares_with_captions(tmp_path: Path) -> None:
    source = public(tmp_path / "data")
    trained, held_out = divided(source)
    assert len(trained) == 2 and len(held_out) == 2
    pairs = list(read_pair_folder(source, 64, seed=1))
    assert len(pairs) == 6 and pairs[4].caption == "caption 1"
    assert all(pair.image.shape == (64, 64, 3) for pair in pairs)
    assert all(pair.mask.instances.shape == (64, 64) for pair in pairs)
    assert len({pair.image.tobytes() for pair in pairs}) == 6


def test_a_control_is_trained_on_a_public_folder(tmp_path: Path) -> None:
    source = public(tmp_path / "data")
    recipe = replace(ControlRecipe.smoke(), source=source, markers=(), steps=1)
    spec = pretrain_control(tmp_path / "out", TINY, recipe, ignore)
    assert spec.names == ("nucleus", "boundary", "distance")
    assert "images held out" in (tmp_path / "out" / "README.md").read_text()
    cases = list(file_cases(listed(source.folder), spec, "mask", "stroma"))
    assert len(cases) == 4 and cases[0].caption == "stroma" and cases[0].real is not None


def test_folders_that_cannot_be_trained_on(tmp_path: Path) -> None:
    source = public(tmp_path / "few", count=2)
    with pytest.raises(ModelError, match="held out"):
        divided(source)
    (source.folder / "masks" / "0.png").unlink()
    with pytest.raises(ModelError, match=r"0\.png has no mask"):
        listed(source.folder)
    with pytest.raises(ModelError, match="holds no images"):
        listed(tmp_path)
    private = public(tmp_path / "private", header="file_name,text,patient_id")
    with pytest.raises(ModelError, match="hospital"):
        list(read_pair_folder(private, 64, seed=1))
    assert list(read_pair_folder(replace(private, public=True), 64, seed=1))
    odd = public(tmp_path / "odd")
    Image.new("I;16", (9, 9)).save(odd.folder / "masks" / "0.png")
    with pytest.raises(ModelError, match="same field"):
        list(read_pair_folder(odd, 64, seed=1))


def test_recipes_that_train_nothing(tmp_path: Path) -> None:
    for change in ({"steps": 0}, {"batch": 3, "shards": 2}, {"tiles": 0}):
        with pytest.raises(ModelError):
            replace(ControlRecipe(), **change)
    with pytest.raises(ModelError, match="--data"):
        recipe = replace(ControlRecipe.smoke(), types=("tumour",))
        pretrain_control(tmp_path, TINY, recipe, ignore)


def test_the_rows_of_a_trial_are_json(pipeline: Pipeline, tmp_path: Path) -> None:
    spec = spec_for(pipeline, UNTYPED, (), BASE)
    save_control(make_control_network(pipeline, spec), spec, tmp_path)
    cases = list(drawn_cases(spec, "mask", 2))[:2]
    trial = run_trial(pipeline, load_control(tmp_path), cases, TrialSettings(steps=2))
    assert json.loads(json.dumps(trial.fidelity.rows()))[0]["comparison"] == "own"
    with pytest.raises(ModelError, match="too few"):
        run_trial(pipeline, load_control(tmp_path), cases[:1])
