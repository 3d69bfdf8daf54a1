"""A process keeps the memory that it frees, where the libc can."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

PROGRAM = textwrap.dedent("""
    import ctypes, resource
    from model.heap import keep_freed_memory

    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(20):
            block = bytearray(8 << 20)
            del block
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    kept = keep_freed_memory()
    faults()
    print(kept, faults())
""")


def test_freed_memory_is_taken_again_without_a_page_fault() -> None:
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    ).stdout.split()
    if found[0] == "False":
        pytest.skip("this libc has no mallopt")
    assert int(found[1]) < 1000  # 40,000 pages otherwise
