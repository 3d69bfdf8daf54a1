"""The processor's instructions, as the kernel lists them."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.processor import multiplies_bfloat16


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("processor: 0\nflags\t\t: fpu avx512f avx512_bf16 amx_tile\n", True),
        ("flags\t\t: fpu amx_bf16", True),
        ("flags\t\t: fpu avx512f xavx512_bf16\n", False),
        ("model name: avx512_bf16\n", False),
        ("", False),
    ],
)
def test_only_the_flags_count(tmp_path: Path, text: str, found: bool) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(text)
    assert multiplies_bfloat16(file) is found


def test_nothing_to_read(tmp_path: Path) -> None:
    assert not multiplies_bfloat16(tmp_path / "none")
