from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model.adapters import layout_of, save_adapter
from privacy.errors import DeploymentError
from privacy.study.manifest import Adapter, Samples

pytest.importorskip("model.sampling")

ADAPTER = Adapter(targets=("attn2.to_q", "attn2.to_v"), rank=1, alpha=2.0)
SAMPLES = Samples(prompts=("glands", "stroma"), seeds=(1, 2), steps=2)


@pytest.fixture
def adapter(tiny_base: Path, tmp_path: Path) -> Path:
    layout = layout_of(tiny_base, ADAPTER)
    path = tmp_path / "adapter.safetensors"
    save_adapter(path, layout, np.full(layout.parameters, 0.5, np.float32), ADAPTER)
    return path


def test_the_grid_shows_what_the_adapter_changes(
    tiny_base: Path, adapter: Path, tmp_path: Path
) -> None:
    from server.samples import draw_samples

    cpu = torch.device("cpu")
    draw_samples(tiny_base, adapter, SAMPLES, tmp_path / "one.png", cpu)
    draw_samples(tiny_base, adapter, SAMPLES, tmp_path / "two.png", cpu)
    one = np.asarray(Image.open(tmp_path / "one.png"))
    np.testing.assert_array_equal(one, np.asarray(Image.open(tmp_path / "two.png")))
    assert one.shape[0] > 2 * 64
    assert one.shape[1] >= 2 * 64


def test_a_picture_that_cannot_be_written(tiny_base: Path, adapter: Path, tmp_path: Path) -> None:
    from server.samples import draw_samples

    (tmp_path / "samples.png").mkdir()
    with pytest.raises(DeploymentError, match="cannot be written"):
        draw_samples(tiny_base, adapter, SAMPLES, tmp_path / "samples.png", torch.device("cpu"))
