"""What `make setup` runs: installs craftsfl into a virtual environment and reports the progress.

    python3 scripts/install.py .venv --base    what an auditor needs, in seconds and without torch
    python3 scripts/install.py .venv           everything else

pip prints hundreds of lines and is then silent for minutes while it unpacks torch. This prints one
line for each step, with the seconds since the start, and at least one every ten seconds, whether
the output goes to a terminal or a file. It needs only the standard library: nothing else is there.
"""

from __future__ import annotations

import argparse
import queue
import re
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

BASE, EVERYTHING = ".", ".[dev]"
WORKS_NOW = (
    "Works already, in another terminal: {bin}/craftsfl --help, site init, rounds roster, "
    "site budget (README, First five minutes)."
)
TORCH = "Now the rest: 2 to 8 minutes, most of it for torch, by far the largest package."
# Thousands of files of which a process imports a handful, if any: Python compiles it then.
_SELDOM_FOLDERS = (
    *("tests?", "SelfTest", "testing", "transformers/models", "diffusers/(modular_)?pipelines"),
    *("torch/_inductor", "torch/_vendor", "sympy/physics", "pygments/lexers", "databricks"),
    *("fontTools", "networkx", "mypyc?", "setuptools"),  # mypy runs as machine code
)
SELDOM = f"/({'|'.join(_SELDOM_FOLDERS)})/"
LARGE_MB = 20.0
QUIET_SECONDS = 10.0
KEPT_LINES = 30

_FILE = re.compile(r"\s*(Downloading|Using cached) (\S+) \((\d+(?:\.\d+)?) ([kMG])B\)")
_PACKAGE = re.compile(r"(?:Collecting|Processing) ([^\s<>=!~;\[(]+)")
_LAST_STEP = "Installing collected packages: "
_IN_MB = {"k": 1e-3, "M": 1.0, "G": 1e3}


@dataclass
class Pip:
    """Follows pip's output. `step`: what it is doing now, for whoever is waiting."""

    packages: Path  # where it installs
    step: str = "starting pip"
    found: set[str] = field(default_factory=set)
    _wanted: int = 0  # packages of the last step
    _before: int = 0  # packages that were there before it

    def read(self, line: str) -> str | None:
        """Take in one line; returns what to show at once, if anything."""
        file = _FILE.match(line)
        if file:
            return self._see_file(_name(file[2]), float(file[3]), file[4])
        package = _PACKAGE.match(line)
        if package:
            self.found.add(_name(package[1]).lower())
            count = len(self.found)
            plural = "s" if count > 1 else ""
            self.step = f"{count} package{plural} found, the last one {_name(package[1])}"
            return None
        if line.startswith(_LAST_STEP):
            self._wanted = line.removeprefix(_LAST_STEP).count(",") + 1
            self._before = self._installed()
            return f"unpacking {self._wanted} packages"
        return None

    def now(self) -> str:
        """What it is doing now, for a line after a silence."""
        if not self._wanted:
            return self.step
        done = min(self._wanted, self._installed() - self._before)
        return f"{done} of {self._wanted} packages unpacked"

    def _see_file(self, name: str, size: float, unit: str) -> str | None:
        megabytes = size * _IN_MB[unit]
        if megabytes < LARGE_MB:
            return None
        self.step = f"getting {name} ({megabytes:.0f} MB)"
        return self.step

    def _installed(self) -> int:
        return sum(1 for _ in self.packages.glob("*.dist-info"))


def _name(package: str) -> str:
    """The name of a package, or of the package in a file."""
    file = Path(package).name
    return file.split("-")[0] if file.endswith((".whl", ".gz", ".zip")) else file


class ElapsedLines:
    """Prints lines with the seconds since it was made."""

    def __init__(self) -> None:
        self._began = self._last = time.monotonic()

    def say(self, text: str) -> None:
        """Print one line, at once even into a file."""
        self._last = time.monotonic()
        sys.stdout.write(f"[{self._last - self._began:4.0f} s] {text}\n")
        sys.stdout.flush()

    def silent(self) -> bool:
        """Whether it is time for another line."""
        return time.monotonic() - self._last >= QUIET_SECONDS


def pip_arguments(what: str) -> list[str]:
    """pip's arguments to install `what`, of the versions in constraints.txt, as an editable."""
    return [
        *("-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off"),
        "--no-compile",  # `compile_packages` does it on all cores
        *("--constraint", "constraints.txt", "--editable", what),
    ]


def run_pip(python: Path, what: str, clock: ElapsedLines) -> None:
    """Run pip to its end; if it fails, end this program with pip's status and last lines."""
    packages = packages_of(python)
    watched, last = Pip(packages), deque[str](maxlen=KEPT_LINES)
    process = subprocess.Popen(
        [str(python), *pip_arguments(what)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    for line in _or_pauses(process.stdout or ()):
        text = watched.read(line) if line else None
        if line:
            last.append(line)
        if text is None and clock.silent():
            text = watched.now()
        if text is not None:
            clock.say(text)
    status = process.wait()
    if status != 0:
        sys.stderr.write("".join(last))
        sys.exit(status)


def packages_of(python: Path) -> Path:
    """Where an environment's `python` finds its packages."""
    (packages,) = python.parents[1].glob("lib/python*/site-packages")
    return packages


def compile_packages(python: Path) -> None:
    """Compile what is installed, on all cores: pip uses one, and takes a minute for it."""
    arguments = ["-m", "compileall", "-qq", "-j", "0", "-x", SELDOM, str(packages_of(python))]
    # Some packages hold templates that no Python can compile: its status says nothing.
    subprocess.run([str(python), *arguments], stdout=subprocess.DEVNULL, check=False)


def _or_pauses(lines: Iterable[str]) -> Iterator[str]:
    """The lines, and an empty text after each second without one."""
    waiting: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in lines:
            waiting.put(line)
        waiting.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = waiting.get(timeout=1.0)
        except queue.Empty:
            yield ""
            continue
        if line is None:
            return
        yield line


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Install craftsfl for development.")
    parser.add_argument("venv", type=Path, help="the virtual environment's folder")
    parser.add_argument("--base", action="store_true", help="the base install alone: no torch")
    asked = parser.parse_args()
    clock, python = ElapsedLines(), asked.venv / "bin" / "python"
    if asked.base:
        clock.say(f"making {asked.venv}")
        subprocess.run([sys.executable, "-m", "venv", str(asked.venv)], check=True)
        clock.say("installing the base: seconds, without torch")
        run_pip(python, BASE, clock)
        compile_packages(python)
        clock.say(WORKS_NOW.format(bin=asked.venv / "bin"))
    else:
        clock.say(TORCH)
        run_pip(python, EVERYTHING, clock)
        clock.say("compiling what is imported often")
        compile_packages(python)
        clock.say("Everything is installed.")


if __name__ == "__main__":
    main()
