"""What an earlier start of this agent has found about rows on this device, kept beside its state.

The trial takes as long as ten batches, and a trainer that was killed should train again soon. What
was found is used again only where both hold:

- everything that it could depend on and that can be named is the same (`circumstances`);
- one batch of the trial gives the same bits now as it did then: it is computed at every start. Half
  of its places hold made-up patients, at an adapter that amplifies rounding, the others what could
  reach them: noise, NaN, huge and denormal numbers. Another kernel or another order of additions
  gives other bits, whoever chose it and for whatever reason; so does a row that touches another.

Only what spoke for the device is kept; a device that was refused is tried again. The file holds
digests and nothing of any patient. Whoever can write it is the agent's own user, who could as well
change the agent.
"""

# Why: docs/adr/0051-what-a-start-need-not-repeat.md

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import torch

from privacy.dpsgd.isolation import Isolation
from privacy.files import read_private, write_private

_LARGEST: Final = 1 << 12  # bytes
_TAG: Final = b"craftsfl/isolation/v1\0"
# Variables by which somebody can choose other kernels, other threads or other libraries.
_CHOOSES: Final = re.compile(
    r"(OMP|GOMP|KMP|MKL|OPENBLAS|BLIS|ONEDNN|DNNL|ATEN|TORCH|PYTORCH|CUDA|CUBLAS|CUDNN|NVIDIA|LD|"
    r"GLIBC|MALLOC)_.*"
)
_OURS: Final = ("client", "model", "privacy", "strategies")
_CPU_LINES: Final = ("model name", "flags", "microcode", "cpu family", "stepping", "Features")
_log = logging.getLogger("craftsfl.agent")


@dataclass(frozen=True, slots=True)
class Proven:
    """A trial that found no row in another's gradient: at which adapter, with which bits."""

    sharpened: float  # of the adapter's factors of queries and keys
    bits: str  # SHA-256 of a batch's gradients, in hex
    permuted: bool  # `Isolation.permuted`

    @property
    def isolation(self) -> Isolation:
        """What was found."""
        return Isolation(in_place=True, permuted=self.permuted)


@dataclass(frozen=True, slots=True)
class KeptProof:
    """The newest proof in `file`, of whatever subject."""

    file: Path

    def read(self, subject: str) -> Proven | None:
        """What was proven of `subject`; None where nothing is known of it."""
        try:
            found = json.loads(read_private(self.file, _LARGEST))
            if found.pop("of") != subject:
                return None
            proven = Proven(float(found["sharpened"]), str(found["bits"]), found["permuted"])
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
        return proven if proven.permuted in (True, False) else None

    def write(self, subject: str, proven: Proven) -> None:
        """Keep it; where that fails, the next start takes longer."""
        text = json.dumps({"of": subject, **asdict(proven)})
        try:
            write_private(self.file, text.encode("ascii"))
        except OSError as error:
            _log.warning("%s cannot be written: %s.", self.file, error.strerror)


def subject_of(device: torch.device, what: object) -> str | None:
    """A digest of what is tried, and of all that the outcome may depend on; None if unknown.

    `what`: model, adapter and shapes, in a form that JSON can hold.
    """
    around = circumstances(device)
    if around is None:
        return None
    text = json.dumps([what, around], sort_keys=True)
    return hashlib.sha256(_TAG + text.encode()).hexdigest()


def circumstances(device: torch.device) -> dict[str, object] | None:
    """Code, libraries, processor, device and settings; None where one of them cannot be told."""
    processor = _processor()
    if processor is None:
        return None
    return {
        "code": _own_code(),
        "libraries": _installed(),
        "python": platform.python_version(),
        "libc": platform.libc_ver(),
        "processor": processor,
        "torch": [torch.__version__, torch.version.git_version, torch.__config__.show()],
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": [torch.get_num_threads(), torch.get_num_interop_threads()],
        "precision": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "variables": {k: v for k, v in sorted(os.environ.items()) if _CHOOSES.fullmatch(k)},
        "device": _device(device),
    }


def _own_code() -> str:
    """A digest of every file of ours that a trainer could run."""
    root = Path(__file__).resolve().parents[2]
    hashed = hashlib.sha256()
    for package in _OURS:
        for path in sorted((root / package).rglob("*.py")):
            data = path.read_bytes()
            hashed.update(f"{path.relative_to(root)} {len(data)}\n".encode() + data)
    return hashed.hexdigest()


def _installed() -> list[str]:
    """Name and version of everything that is installed, as its folder of metadata is called."""
    return sorted(info.name for place in sys.path for info in Path(place).glob("*.dist-info"))


def _processor() -> list[str] | None:
    """What the kernel says of the processors, each line once; None where it does not."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return None
    return sorted({line for line in lines if line.startswith(_CPU_LINES)}) or None


def _device(device: torch.device) -> list[object]:
    if device.type != "cuda":
        return [device.type]
    found = torch.cuda.get_device_properties(device)
    try:
        driver = Path("/proc/driver/nvidia/version").read_text("utf-8", "replace")
    except OSError:
        driver = ""
    memory, capability = found.total_memory, [found.major, found.minor]
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return ["cuda", found.name, capability, memory, torch.version.cuda, cudnn, driver]
