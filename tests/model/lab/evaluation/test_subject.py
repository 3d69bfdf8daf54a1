"""A model that is evaluated on the spot: on a random tiny pipeline."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from diffusers import StableDiffusionPipeline

from model.adapters import attach, detach, initial_vector, save_adapter
from model.lab.evaluation.drift import BaseAndAdapted, denoiser_drift, drift_figure, image_drift
from model.lab.evaluation.encode import EncoderSpace
from model.lab.evaluation.figures import ImageSet
from model.lab.evaluation.subject import Subject, drift_figures, in_turn
from model.quality.alignment import TooFewError
from privacy.study.manifest import Adapter
from tests.model.lab.evaluation.fakes import ColourEncoder

pytestmark = pytest.mark.slow  # the laboratory: nothing of it is shipped to a hospital

PROMPTS = ("glands", "stroma", "fat", "necrosis")


def _adapter(pipeline: StableDiffusionPipeline, path: Path, size: float) -> Path:
    """An adapter that changes what the pipeline says by as much as `size`."""
    adapter = Adapter(targets=("attn2.to_q", "attn2.to_v"), rank=2, alpha=2)
    layout = attach(pipeline.unet, adapter)
    detach(pipeline.unet)
    noise = np.random.default_rng(0).normal(size=len(initial_vector(layout, b"")))
    save_adapter(path, layout, (size * noise).astype(np.float32), adapter)
    return path


def _subject(pipeline: StableDiffusionPipeline, path: Path, size: float) -> Subject:
    return Subject(pipeline, _adapter(pipeline, path, size), steps=2, guidance=1.0)


def test_every_patient_has_its_turn() -> None:
    patients = np.repeat(np.arange(3), [10, 1, 2])
    rng = np.random.default_rng(0)
    first = in_turn(patients, 5, rng)
    assert sorted(patients[first[:3]]) == [0, 1, 2]
    assert sorted(patients[first[3:5]]) == [0, 2]
    again = in_turn(patients, 30, rng)
    assert len(again) == 30 and set(again[:13]) == set(range(13))


def test_images_of_the_real_captions_belong_to_their_patients(
    tiny_pipeline: StableDiffusionPipeline,
) -> None:
    real = ImageSet(np.zeros((3, 8, 8, 3), np.uint8), PROMPTS[:3], np.array([5, 6, 6]))
    drawn = Subject(tiny_pipeline, steps=1).draw(real, 4)
    owner = dict(zip(real.captions, real.patients, strict=True))
    assert [owner[caption] for caption in drawn.captions] == drawn.patients.tolist()
    assert set(drawn.patients[:2]) == {5, 6}
    assert drawn.images.dtype == np.uint8 and len({i.tobytes() for i in drawn.images}) == 4


def test_nothing_of_a_long_caption_is_logged(
    tiny_pipeline: StableDiffusionPipeline, caplog: pytest.LogCaptureFixture
) -> None:
    caption = "confidential " * 20
    real = ImageSet(np.zeros((1, 8, 8, 3), np.uint8), (caption,), np.array([0]))
    tiny_pipeline.encode_prompt(caption, "cpu", 1, False)
    assert "confid" in caplog.text  # or this test tests nothing
    caplog.clear()
    Subject(tiny_pipeline, steps=1).draw(real, 1)
    assert "confid" not in caplog.text


def test_without_an_adapter_there_is_no_drift(tiny_pipeline: StableDiffusionPipeline) -> None:
    assert Subject(tiny_pipeline, steps=1).before_and_after(PROMPTS) is None


def test_an_adapter_of_zeros_does_not_drift_and_a_large_one_does(
    tiny_pipeline: StableDiffusionPipeline, tmp_path: Path
) -> None:
    drifts = {}
    for size in (0.0, 0.3):
        subject = _subject(tiny_pipeline, tmp_path / f"{size}.safetensors", size)
        images = subject.before_and_after(PROMPTS)
        assert images is not None
        figures = drift_figures(subject, images, [EncoderSpace(ColourEncoder())])
        assert [figure.encoder for figure in figures] == ["denoiser", "colours"]
        assert figures[1].beside[0].name == "base, other seeds"
        drifts[size] = figures
        tiny_pipeline.unload_lora_weights()
    assert [figure.value for figure in drifts[0.0]] == pytest.approx([0, 0], abs=1e-6)
    assert drifts[0.3][0].low > 1e-4 and drifts[0.3][1].value > 0


def test_the_base_is_switched_back_on(
    tiny_pipeline: StableDiffusionPipeline, tmp_path: Path
) -> None:
    subject = _subject(tiny_pipeline, tmp_path / "a.safetensors", 0.3)
    images = subject.before_and_after(PROMPTS)
    assert images is not None
    once = denoiser_drift(subject.pipeline, images, 0)
    assert denoiser_drift(subject.pipeline, images, 0) == pytest.approx(once)


def test_drift_does_not_depend_on_the_batch(
    tiny_pipeline: StableDiffusionPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = _subject(tiny_pipeline, tmp_path / "a.safetensors", 0.3)
    images = subject.before_and_after(PROMPTS)
    assert images is not None
    at_once = denoiser_drift(subject.pipeline, images, 0)
    monkeypatch.setattr("model.lab.evaluation.drift._BATCH", 3)
    assert denoiser_drift(subject.pipeline, images, 0) == pytest.approx(at_once, rel=1e-4)


def test_image_drift_by_hand() -> None:
    x, y = np.array([[1.0, 0], [1, 0]], np.float32), np.array([[0.0, 2], [3, 0]], np.float32)
    assert image_drift(x, y) == pytest.approx([1, 0])


def test_one_prompt_is_too_few() -> None:
    with pytest.raises(TooFewError, match="2 public prompts"):
        drift_figure("drift", "denoiser", np.ones(1), 0)


def test_before_and_after_are_of_the_same_prompts(
    tiny_pipeline: StableDiffusionPipeline, tmp_path: Path
) -> None:
    subject = _subject(tiny_pipeline, tmp_path / "a.safetensors", 0.0)
    images = subject.before_and_after(PROMPTS)
    assert isinstance(images, BaseAndAdapted)
    assert np.abs(images.base.astype(int) - images.adapted).max() <= 1
    assert np.abs(images.base.astype(int) - images.other_seed).max() > 1
