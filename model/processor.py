"""What the processor can do, read from the kernel: nothing large is imported."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_CPUINFO: Final = Path("/proc/cpuinfo")
_BFLOAT16: Final = frozenset({"avx512_bf16", "amx_bf16"})


def multiplies_bfloat16(cpuinfo: Path = _CPUINFO) -> bool:
    """Whether there are instructions for products of bfloat16; false where nothing can be read."""
    try:
        lines = cpuinfo.read_text("utf-8", "replace").splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.startswith("flags")), "")
    return not _BFLOAT16.isdisjoint(flags.split())
