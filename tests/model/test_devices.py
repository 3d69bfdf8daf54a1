"""Devices by name."""

from __future__ import annotations

import pytest
import torch

from model.devices import pick_device
from privacy.errors import ModelError


def test_auto_takes_the_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto").type == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto").type == "cpu"


def test_the_cpu_is_always_there() -> None:
    assert pick_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "", "cpu:x", "meta", "cuda:99"])
def test_other_names_are_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(ModelError, match='"auto"'):
        pick_device(name)
