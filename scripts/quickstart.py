"""What `make quickstart` runs: the lines of docs/quickstart.md, as they stand, on this machine.

    python scripts/quickstart.py [--dir FOLDER]

It draws three hospitals' tiles, then plays all four desks: every line is a command, what it asks
is answered as people would, and the fingerprint is what the operator's desk printed. It ends
everything once the first sum is opened. Its last line: `round 1 after N commands, S s`.

Root plays an ordinary user, since a hospital of one user has no airlock from root.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "quickstart.md"
PATIENTS = 36  # rounded up, as the page declares them: 40
PATIENCE = 400.0  # seconds until the first sum is opened
_USER = 61003
_FINGERPRINT = re.compile(r"(?m)^\s+(\d{5}(?: \d{5}){5})\s*$")


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def commands_of(page: str) -> list[str]:
    """Every line of the page's blocks, in order."""
    blocks = re.findall(r"(?ms)^```sh\n(.*?)^```", page)
    return [line for block in blocks for line in block.splitlines() if line]


@dataclass
class Desks:
    """Everybody who takes part; `typed` counts the commands."""

    folder: Path
    typed: int = 0
    fingerprint: str = ""
    serving: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def type_in(self, line: str) -> None:
        """Run one line as it stands, and answer what it asks; raises `SystemExit` if it fails."""
        say(f"$ {line}")
        self.typed += 1
        words = shlex.split(line)
        if words[2] in ("serve", "start"):
            self._serve(line, words)
            return
        done = subprocess.run(
            words,
            cwd=self.folder,
            input=f"{self.fingerprint}\ny\ny\n",
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(f"{done.stdout}{done.stderr}It failed with status {done.returncode}.")
        if found := _FINGERPRINT.findall(done.stdout):
            self.fingerprint = found[-1]  # of `rounds add`: what the operator reads out

    def _serve(self, line: str, words: list[str]) -> None:
        """Start what goes on; a person types the next line when this one says that it serves."""
        log = self.folder / f"{self.typed:02}-{words[1]}-{words[2]}.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                words, cwd=self.folder, stdout=stream, stderr=stream, start_new_session=True
            )
        self.serving.append(process)
        until = time.monotonic() + PATIENCE
        while words[2] == "serve" and b"Serving" not in log.read_bytes():
            self.check(line, process, log)
            if time.monotonic() > until:
                sys.exit(f"{line} does not begin to serve. {log.read_text()}")
            time.sleep(0.1)

    def check(self, line: str, process: subprocess.Popen[bytes], log: Path) -> None:
        """Raise `SystemExit` if what was to go on has ended."""
        if process.poll() is not None:
            sys.exit(f"{line} ended with status {process.returncode}:\n{log.read_text()}")

    def wait_for_a_sum(self) -> None:
        """Until round 1 is opened; raises `SystemExit` if that does not happen."""
        events = self.folder / "colon" / "state" / "events.jsonl"
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            told = events.read_text() if events.exists() else ""
            if '"event":"round-finished"' in told:
                return
            for process, log in zip(self.serving, sorted(self.folder.glob("*.log")), strict=True):
                self.check(log.stem, process, log)
            time.sleep(0.1)
        logs = "\n".join(log.read_text()[-2000:] for log in sorted(self.folder.glob("*.log")))
        sys.exit(f"No sum was opened within {PATIENCE:.0f} s.\n{logs}")

    def end(self) -> None:
        """Ctrl-C at every desk, the last one first."""
        for process in reversed(self.serving):
            process.send_signal(signal.SIGINT)
        for process in self.serving:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def desks_in(folder: Path) -> Iterator[Desks]:
    """Desks at which nothing goes on afterwards."""
    desks = Desks(folder)
    try:
        yield desks
    finally:
        desks.end()


def draw_tiles(folder: Path) -> None:
    """Three hospitals' folders of tiles, as `craftsfl demo` draws them."""
    from model.lab.tissue import HOSPITALS
    from model.lab.tissue.imagefolder import write_site

    for seed, (name, appearance) in enumerate(HOSPITALS.items(), start=1):
        target = folder / "tiles" / name
        write_site(
            target, site=name, patients=PATIENTS, most_tiles=1, appearance=appearance, seed=seed
        )


def play(folder: Path) -> None:
    """Type everything, and say how long it took."""
    os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    draw_tiles(folder)
    began = time.monotonic()
    with desks_in(folder) as desks:
        for line in commands_of(PAGE.read_text("utf-8")):
            desks.type_in(line)
        desks.wait_for_a_sum()
        seconds = time.monotonic() - began
    say(f"round 1 after {desks.typed} commands, {seconds:.0f} s")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="The lines of docs/quickstart.md, as they stand.")
    parser.add_argument("--dir", type=Path, help="keep everything here: a new folder")
    asked = parser.parse_args()
    made = asked.dir is None
    folder = Path(tempfile.mkdtemp(prefix="quickstart-")) if made else asked.dir.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        sys.exit(f"{folder} is not empty: name a new folder.")
    sys.path.insert(0, str(ROOT))
    try:
        if os.geteuid() == 0:
            _play_as_ordinary_user(folder)
        else:
            play(folder)
    finally:
        if made:
            shutil.rmtree(folder, ignore_errors=True)


def _play_as_ordinary_user(folder: Path) -> None:
    from scripts.other_users import command_as

    os.chown(folder, _USER, _USER)
    argv = [sys.executable, str(Path(__file__).resolve()), "--dir", str(folder)]
    own = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "TZ")}
    done = subprocess.run(command_as(_USER, argv), env={**own, "HOME": str(folder)}, check=False)
    if done.returncode:
        sys.exit(done.returncode)


if __name__ == "__main__":
    main()
