"""What only a GPU can show, in at most eight minutes: one JSON object on stdout and in a file.

`make gpu-check`; docs/gpu-check.md explains the rows. Exits with 0 if every claim that must hold
was seen to hold, with 1 if one was not (the last lines say which), and with 2 if nothing could be
checked.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import json
import math
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from bench.gpu_plan import GpuCase
    from bench.output import BenchRow

_MISSING: Final = 2
_LIBRARIES: Final = ("diffusers", "numpy", "opacus", "peft", "transformers")
_Value: TypeAlias = str | int | float | bool | None
_WORDS: Final = 400  # of an error's text


class TimeUp(BaseException):
    """The part's time is up; no `except Exception` on the way may swallow it."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise `TimeUp` in the block after this many seconds."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise TimeUp

    before = signal.signal(signal.SIGALRM, ring)
    outer = signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *outer)


def tried(case: GpuCase, seconds: float) -> BenchRow:
    """The case's row; an error or a timeout is a row too."""
    begun = time.monotonic()
    found: BenchRow
    try:
        with within(seconds):
            found = case.look()
    except TimeUp:
        found = {"error": "TimeUp", "text": "the part's time was over"}
    except Exception as error:  # noqa: BLE001 - whatever a GPU does, the other rows are wanted
        found = {"error": type(error).__name__, "text": str(error)[:_WORDS]}
    took = round(time.monotonic() - begun, 2)
    return {"check": case.check, **case.what, **dict(map(_written, found.items())), "seconds": took}


def _written(item: tuple[str, _Value]) -> tuple[str, _Value]:
    """JSON has neither NaN nor infinity: None instead, which no claim accepts as a number."""
    key, value = item
    return key, None if isinstance(value, float) and not math.isfinite(value) else value


def look(cases: Sequence[GpuCase], seconds: float) -> Iterator[BenchRow]:
    """The rows of one part, which may take this many seconds in total."""
    import torch

    end = time.monotonic() + seconds
    for case in cases:
        yield tried(case, end - time.monotonic())
        gc.collect()  # an engine's hooks hold its model in cycles
        torch.cuda.empty_cache()


def unproven_claims(rows: Sequence[BenchRow]) -> list[str]:
    """The claims that must hold and were not seen to hold."""
    from bench.sensitivity import TOLERANCE

    found = []
    for row in rows:
        said = f": {dict(row)}"
        match row["check"]:
            case "agent" if row.get("usable") is not True:
                found.append("the device cannot be used in the agent's confinement" + said)
            case "isolation" if row["precision"] == "float32" and row.get("in_place") is not True:
                found.append("not shown that places keep to themselves" + said)
            case "sensitivity" if row["protected"]:
                ratio = row.get("ratio")
                if not (isinstance(ratio, float) and ratio <= TOLERANCE):
                    found.append("not shown that one patient moves the sum by C at most" + said)
            case "slots" if not (row.get("equal") is True and row.get("within_clip") is True):
                found.append("not shown that a patient adds the same whoever is there" + said)
    return found


def versions() -> Mapping[str, str | None]:
    """Of everything that the figures depend on."""
    import torch

    found = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "driver": _driver(),
        **found,
    }


def _driver() -> str | None:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.split("\n")[0].strip() or None


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m bench.gpu_check", description=__doc__)
    made.add_argument(
        "--output", type=Path, help="a file for the JSON object, in addition to stdout"
    )
    made.add_argument(
        "--cpu", action="store_true", help="on the processor: says nothing about a GPU"
    )
    made.add_argument("--quick", action="store_true", help="the smallest shapes: a smoke test")
    return made


def _unready(on_cpu: bool) -> str | None:
    """What is missing, as a message, or None."""
    try:
        import torch

        import bench.gpu_parts  # noqa: F401 - all that it needs is imported here
    except ImportError as error:
        return (
            f"{error}. Run `make gpu-wheels` on a machine with a network, bring its folder "
            "here, and run `make gpu-check` again; torch and transformers must be installed."
        )
    if on_cpu or torch.cuda.is_available():
        return None
    return (
        "torch finds no CUDA device here. Run `make gpu-check` on a machine with a GPU, its driver "
        "and torch for CUDA; `--cpu --quick` only tries out the script."
    )


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m bench.gpu_check [--output FILE] [--cpu] [--quick]`: the exit code."""
    options = arguments().parse_args(argv)
    missing = _unready(options.cpu)
    if missing is not None:
        print(missing, file=sys.stderr)
        return _MISSING
    from bench.gpu_parts import PARTS
    from bench.gpu_plan import GpuPlan, quick
    from bench.output import device_name

    where = "cpu" if options.cpu else "cuda"
    plan = quick(where) if options.quick else GpuPlan(where)
    rows: list[BenchRow] = []
    for part, seconds in PARTS.items():
        for row in look(list(part(plan)), seconds):
            rows.append(row)
            print(dict(row), file=sys.stderr, flush=True)
    named = device_name() if where == "cuda" else f"{platform.machine()} CPU"
    answer = {"bench": "gpu-check", "device": named, "versions": versions(), "rows": rows}
    text = json.dumps(answer, allow_nan=False)
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(text + "\n")
    print(text, flush=True)
    found = unproven_claims(rows)
    print("\n".join(found) or "Every claim that must hold was seen to.", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
