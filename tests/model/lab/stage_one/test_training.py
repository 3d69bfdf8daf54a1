"""Whole runs on a random pipeline: what comes out, and that a killed run ends alike."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file

from model.base import load_base
from model.cache import install_base
from model.digest import folder_digest
from model.lab.stage_one import latents
from model.lab.stage_one.denoiser import min_snr_weights
from model.lab.stage_one.export import export_base
from model.lab.stage_one.run import Data, Show, train_base
from model.lab.stage_one.settings import StageOneSettings
from model.lab.stage_one.trainer import TrainingReport, rate_at
from model.losses import NoiseSchedule
from privacy.config import check
from privacy.errors import ConfigError, ModelError
from tests.model.lab.stage_one.pictures import write_folder, write_shard
from tests.model.lab.stage_one.settings import SETTINGS, Weights, changed, unet
from tests.tiny import build_tiny_base

pytestmark = pytest.mark.slow  # the laboratory: nothing of it is shipped to a hospital


class Killed(Exception):
    """As if the machine went down."""


def kill_at(step: int) -> Show:
    def trained(report: TrainingReport) -> None:
        if report.step == step:
            raise Killed

    return Show(trained=trained)


def same(ours: Weights, theirs: Weights) -> bool:
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture
def data(tmp_path: Path) -> Data:
    return Data([str(write_folder(tmp_path / "data", 5))])


def test_a_run_makes_a_base_that_installs_and_says_what_it_is(
    tiny_base: Path, data: Data, tmp_path: Path
) -> None:
    reports: list[TrainingReport] = []
    out = tmp_path / "out"
    digest = train_base(tiny_base, data, out, SETTINGS, Show(trained=reports.append))
    assert digest == folder_digest(out) == install_base(out)
    assert [report.step for report in reports] == [1, 2, 3, 4]
    assert all(report.loss > 0 and report.images_per_second > 0 for report in reports)
    card = (out / "README.md").read_text()
    assert "not\nprivate" in card and digest in card and folder_digest(tiny_base) in card
    assert len((out / "training.jsonl").read_text().splitlines()) == 4
    assert not (out / ".checkpoints").exists() and not (out / "quarantine.csv").exists()
    assert str(tmp_path) not in "".join(p.read_text() for p in out.rglob("*.json"))
    assert not same(unet(out), unet(tiny_base))
    for part in ("vae/diffusion_pytorch_model", "text_encoder/model"):
        name = f"{part}.safetensors"
        assert same(load_file(out / name), load_file(tiny_base / name))  # frozen
    assert load_base(out).unet.config.sample_size == 16
    with pytest.raises(ModelError, match="already holds a base"):
        train_base(tiny_base, data, out, SETTINGS)


def test_a_killed_run_goes_on_and_ends_bit_for_bit_alike(
    tiny_base: Path, data: Data, tmp_path: Path
) -> None:
    train_base(tiny_base, data, tmp_path / "whole", SETTINGS)
    with pytest.raises(Killed):
        train_base(tiny_base, data, tmp_path / "out", SETTINGS, kill_at(3))
    (tmp_path / "out" / ".checkpoints" / "partial").mkdir()  # a checkpoint cut short
    steps: list[int] = []
    digest = train_base(
        tiny_base, data, tmp_path / "out", SETTINGS, Show(trained=lambda r: steps.append(r.step))
    )
    assert steps == [3, 4]
    assert digest == folder_digest(tmp_path / "whole")
    noted = (tmp_path / "out" / "training.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in noted] == [1, 2, 3, 4]


def test_another_run_is_not_gone_on_from(tiny_base: Path, data: Data, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train_base(tiny_base, data, tmp_path / "out", SETTINGS, kill_at(3))
    other = changed(seed=1, caption_dropout=0.5, workers=1)
    with pytest.raises(ModelError, match="other values of caption_dropout, seed"):
        train_base(tiny_base, data, tmp_path / "out", other)


def test_the_average_over_steps_is_what_is_saved(
    tiny_base: Path, data: Data, tmp_path: Path
) -> None:
    after = []
    for steps in (1, 2):
        out = tmp_path / str(steps)
        train_base(tiny_base, data, out, changed(steps=steps, ema_decay=0.0))
        after.append(unet(out))
    train_base(tiny_base, data, tmp_path / "ema", changed(steps=2, ema_decay=0.9))
    # diffusers' warm-up: decay 0 at the first step, then min(decay, (1 + k) / (10 + k))
    for name, average in unet(tmp_path / "ema").items():
        first, second = (weights[name] for weights in after)
        expected = 2 / 11 * first + 9 / 11 * second
        assert torch.allclose(average, expected, atol=1e-6)


def test_micro_batches_change_nothing_but_rounding(
    tiny_base: Path, data: Data, tmp_path: Path
) -> None:
    # one step: AdamW's first is the gradient's sign, where rounding may turn a tiny one over
    for micro in (1, 2):
        settings = changed(steps=1, micro_batch=micro, gradient_checkpointing=micro == 1)
        train_base(tiny_base, data, tmp_path / str(micro), settings)
    ours, theirs = unet(tmp_path / "1"), unet(tmp_path / "2")
    moved = torch.cat([(ours[n] - theirs[n]).abs().flatten() for n in ours])
    assert (moved > 1e-6).float().mean() < 0.01


def test_shards_cached_latents_and_the_text_encoder(tiny_base: Path, tmp_path: Path) -> None:
    data = Data([str(write_shard(tmp_path / "s.tar", range(5)))])
    cached: list[tuple[int, int]] = []
    settings = changed(text_encoder=True, latents="cached")
    show = Show(cached=lambda done, total: cached.append((done, total)))
    train_base(tiny_base, data, tmp_path / "out", settings, show)
    assert cached == [(5, 5)]
    name = "text_encoder/model.safetensors"
    assert not same(load_file(tmp_path / "out" / name), load_file(tiny_base / name))


def test_cached_latents_train_as_encoded_ones(
    tiny_base: Path, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latents, "CHUNK", 2)
    losses: dict[str, list[float]] = {"encoded": [], "cached": []}
    for kind, seen in losses.items():
        show = Show(trained=lambda report, seen=seen: seen.append(report.loss))  # type: ignore[misc]
        settings = changed(steps=2, latents=kind, flips=False)
        train_base(tiny_base, data, tmp_path / kind, settings, show)
    assert losses["cached"] == pytest.approx(losses["encoded"], rel=1e-3)  # half precision


def test_broken_pictures_are_listed(tiny_base: Path, data: Data, tmp_path: Path) -> None:
    (tmp_path / "data" / "001.png").write_bytes(b"broken")
    for kind in ("encoded", "cached"):
        out = tmp_path / kind
        train_base(tiny_base, data, out, changed(latents=kind, broken_limit=0.2))
        listed = (out / "quarantine.csv").read_text().splitlines()
        assert len(listed) == 2 and "data/001.png" in listed[1] and "not an image" in listed[1]
        assert "of which 1 could not be used" in (out / "README.md").read_text()


def test_where_all_captions_are_dropped_they_have_no_influence(
    tiny_base: Path, data: Data, tmp_path: Path
) -> None:
    rows = (tmp_path / "data" / "metadata.csv").read_text()
    settings = changed(steps=1, caption_dropout=0.999999)
    train_base(tiny_base, data, tmp_path / "a", settings)
    (tmp_path / "data" / "metadata.csv").write_text(rows.replace("tissue", "stroma"))
    train_base(tiny_base, data, tmp_path / "b", settings)
    assert same(unet(tmp_path / "a"), unet(tmp_path / "b"))


def test_a_full_disk_is_said_and_the_run_goes_on(
    tiny_base: Path, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil._ntuple_diskusage(10**9, 10**9, 1000)  # type: ignore[attr-defined]
    with monkeypatch.context() as full:
        full.setattr("shutil.disk_usage", lambda path: usage)
        with pytest.raises(ModelError, match=r"A checkpoint takes .* MiB left"):
            train_base(tiny_base, data, tmp_path / "out", SETTINGS)

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    def fill(report: TrainingReport) -> None:
        if report.step == 3:
            monkeypatch.setattr("accelerate.Accelerator.save_state", refuse)

    with pytest.raises(ModelError, match=r"after step 4 cannot be written .*No space left"):
        train_base(tiny_base, data, tmp_path / "out", SETTINGS, Show(trained=fill))
    monkeypatch.undo()
    steps: list[int] = []
    show = Show(trained=lambda report: steps.append(report.step))
    assert train_base(tiny_base, data, tmp_path / "out", SETTINGS, show) and steps == [3, 4]


def test_a_base_of_v_predictions_trains(tmp_path: Path, data: Data) -> None:
    base = build_tiny_base(tmp_path / "v", prediction_type="v_prediction")
    train_base(base, data, tmp_path / "out", changed(steps=1))
    assert "| prediction | v_prediction |" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_the_weights_are_min_snrs(kind: str) -> None:
    schedule = NoiseSchedule(torch.linspace(0.999, 0.0, 50), kind)
    snr = schedule.alphas_cumprod / (1 - schedule.alphas_cumprod)
    weights = min_snr_weights(schedule, 5.0)
    divisor = snr if kind == "epsilon" else snr + 1
    expected = torch.minimum(snr, torch.tensor(5.0))[:-1] / divisor[:-1]
    assert torch.allclose(weights[:-1], expected)
    assert weights[-1] == (1 if kind == "epsilon" else 0)  # no signal left: no division by it
    assert (min_snr_weights(schedule, 0.0) == 1).all()


def test_the_rate_warms_up_and_falls_where_it_shall() -> None:
    constant, cosine = changed(warm_up=2), changed(warm_up=0, rate_schedule="cosine")
    assert [rate_at(step, constant) for step in range(4)] == [5e-4, 1e-3, 1e-3, 1e-3]
    rates = [rate_at(step, cosine) for step in range(4)]
    assert rates[0] == 1e-3 and rates == sorted(rates, reverse=True)


def test_what_cannot_be_trained_is_said(tiny_base: Path, data: Data, tmp_path: Path) -> None:
    def refused(says: str, base: Path = tiny_base, **keys: Any) -> None:
        with pytest.raises(ModelError, match=says) as error:
            train_base(base, data, tmp_path / "out", changed(**keys))
        assert error.value.hint

    refused("multiples of 8", size=60)
    refused("5 of 5 inspected pictures .* smaller than 128x128", size=128)
    if not torch.cuda.is_available():
        refused("'fp16' needs a GPU", precision="fp16")
    refused("training diverged", learning_rate=1e30)
    shutil.copytree(tiny_base, tmp_path / "base")
    index = json.loads((tmp_path / "base" / "model_index.json").read_text())
    del index["unet"]
    (tmp_path / "base" / "model_index.json").write_text(json.dumps(index))
    refused("not a Stable-Diffusion-shaped pipeline", tmp_path / "base")


def test_settings_are_strict() -> None:
    with pytest.raises(ConfigError, match=r"unknown key stpes .did you mean steps"):
        check({"stpes": 3}, StageOneSettings, where="stage-one.toml")
    with pytest.raises(ConfigError, match="caption_dropout"):
        check({"caption_dropout": 1.0}, StageOneSettings, where="stage-one.toml")
    assert "workers" not in SETTINGS.outcome() and "seed" in SETTINGS.outcome()


def test_the_base_in_half_precision_draws_for_anybody(tiny_base: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    export_base(load_base(tiny_base), out, tmp_path / "workspace", half=True)
    assert {
        value.dtype for value in load_file(out / "text_encoder" / "model.safetensors").values()
    } == {torch.float16}
    pipeline = StableDiffusionPipeline.from_pretrained(out, local_files_only=True)
    assert pipeline.text_encoder.dtype == pipeline.unet.dtype == torch.float32
