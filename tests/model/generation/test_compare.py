"""Drawing with an adapter: before and after, and no adapter of another base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.adapters import attach, detach, save_adapter
from model.generation.compare import GridRequest, compare_adapter
from model.layout import Layout, LayoutEntry
from privacy.errors import ModelError
from privacy.study.manifest import Adapter

ADAPTER = Adapter(targets=("attn2.to_q", "attn2.to_v"), rank=1, alpha=2.0)
COMPARISON = GridRequest(("glands",), (1, 2), steps=2)


def saved(folder: Path, pipeline: Any, adapter: Adapter = ADAPTER) -> Path:
    layout = attach(pipeline.unet, adapter)
    detach(pipeline.unet)
    vector = np.random.default_rng(1).normal(size=layout.parameters).astype(np.float32)
    path = folder / "adapter.safetensors"
    save_adapter(path, layout, vector, adapter)
    return path


def test_the_adapter_is_seen_beside_the_base(tmp_path: Path, tiny_pipeline: Any) -> None:
    path = saved(tmp_path, tiny_pipeline)
    alone = compare_adapter(tiny_pipeline, None, COMPARISON)
    both = compare_adapter(tiny_pipeline, path, COMPARISON)
    assert both.width > alone.width
    assert both.height == alone.height
    cell = (both.width - alone.width, both.height)
    before = np.asarray(both)[:, -2 * cell[0] : -cell[0]]
    after = np.asarray(both)[:, -cell[0] :]
    assert not np.array_equal(before[28:], after[28:])


def test_a_file_that_is_no_adapter_is_refused(tmp_path: Path, tiny_pipeline: Any) -> None:
    path = tmp_path / "adapter.safetensors"
    path.write_bytes(b"nonsense")
    with pytest.raises(ModelError, match="not an adapter"):
        compare_adapter(tiny_pipeline, path, COMPARISON)


def test_an_adapter_of_another_base_is_refused(tmp_path: Path, tiny_pipeline: Any) -> None:
    layout = attach(tiny_pipeline.unet, ADAPTER)
    detach(tiny_pipeline.unet)
    wider = Layout(
        tuple(
            LayoutEntry(e.name, tuple(n if n == ADAPTER.rank else 2 * n for n in e.shape), e.dtype)
            for e in layout.entries
        )
    )
    path = tmp_path / "adapter.safetensors"
    save_adapter(path, wider, np.zeros(wider.parameters, np.float32), ADAPTER)
    with pytest.raises(ModelError, match="another base"):
        compare_adapter(tiny_pipeline, path, COMPARISON)
