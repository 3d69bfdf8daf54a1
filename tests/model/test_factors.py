"""Which names and shapes are LoRA's two factors of a study's targets."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.factors import check_factors
from model.layout import Layout, LayoutEntry
from privacy.errors import ModelError
from privacy.study.manifest import Adapter

PATH = Path("adapter.safetensors")
RANK_2 = Adapter(targets=("attn2.to_q", "conv"), rank=2, alpha=1.0)
FROZEN = RANK_2.model_copy(update={"frozen_a": True})
Shape = tuple[int, ...]


def factor(module: str, which: str, shape: Shape) -> LayoutEntry:
    return LayoutEntry(f"{module}.lora_{which}.weight", shape, "float32")


def pair(module: str, a: Shape, b: Shape) -> tuple[LayoutEntry, LayoutEntry]:
    return factor(module, "A", a), factor(module, "B", b)


@pytest.mark.parametrize(
    "entries",
    [
        pair("attn2.to_q", (2, 5), (7, 2)),
        pair("down.0.attn2.to_q", (2, 1), (1, 2)),
        pair("mid.conv", (2, 4, 3, 3), (8, 2, 1, 1)),
    ],
)
def test_factors_of_a_target_are_taken(entries: tuple[LayoutEntry, ...]) -> None:
    check_factors(PATH, Layout(entries), RANK_2)
    check_factors(PATH, Layout(entries[1:], entries[:1]), FROZEN)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ((), "holds no tensor"),
        (pair("attn2.to_k", (2, 5), (7, 2)), "is not a factor of a target"),
        (pair("xattn2.to_q", (2, 5), (7, 2)), "is not a factor of a target"),
        ((LayoutEntry("attn2.to_q.lora_A.bias", (2,), "float32"),), "is not a factor"),
        (pair("attn2.to_q", (2, 5), (7, 2))[:1], "not factors of rank 2"),
        (pair("attn2.to_q", (2, 5), (7, 2))[1:], "not factors of rank 2"),
        (pair("attn2.to_q", (3, 5), (7, 3)), "not factors of rank 2"),
        (pair("attn2.to_q", (2, 5), (7, 3)), "not factors of rank 2"),
        (pair("attn2.to_q", (5, 2), (2, 7)), "not factors of rank 2"),
        (pair("conv", (2, 4, 3, 3), (8, 2)), "not factors of rank 2"),
        (pair("conv", (2, 4, 3, 3), (8, 2, 3, 3)), "not factors of rank 2"),
        (pair("conv", (2, 4, 3), (8, 2, 1)), "not factors of rank 2"),
        (pair("attn2.to_q", (2, 0), (7, 2)), "not factors of rank 2"),
    ],
)
def test_anything_else_is_named(entries: tuple[LayoutEntry, ...], words: str) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        check_factors(PATH, Layout(entries), RANK_2)
    assert "as the run released it" in caught.value.hint


def test_all_factors_a_are_frozen_or_none() -> None:
    first, second = pair("attn2.to_q", (2, 5), (7, 2)), pair("a.attn2.to_q", (2, 5), (7, 2))
    whole, words = (*first, *second), "exactly the factors A have to be frozen, or none"
    check_factors(PATH, Layout(whole), RANK_2)
    for trained, frozen, study in (
        (whole, (), FROZEN),
        ((first[1], *second), first[:1], FROZEN),
        ((first[0], second[0]), (first[1], second[1]), FROZEN),
        ((first[1], second[1]), (first[0], second[0]), RANK_2),
    ):
        with pytest.raises(ModelError, match=words):
            check_factors(PATH, Layout(trained, frozen), study)
