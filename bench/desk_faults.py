"""What a hospital's spoilt data does to a real study, typed as people type it.

Rows: `fault`, `trials`, `resumed`, `stopped_in_words`, `uncaused_charges`, `left_out`, `steps`,
`tracebacks`. Three hospitals and a coordinator, by the commands of docs/quickstart.md, with drawn
tiles and the tiny base.

- 3 % unreadable tiles: of one hospital, cut short before it joins;
- folder vanishes: one hospital's tiles are moved away after the first step, and brought back some
  seconds later.

- resumed: trials in which further steps were opened after the harm, without a hand;
- stopped_in_words: trials after which the run had ended, with a reason;
- uncaused_charges: charges in the harmed hospital's ledger for attempts that the coordinator never
  began; left_out: rows of its quarantine list; steps: steps opened in all.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from bench.output import BenchRow
from privacy.ledger import read_ledger

_NAMES: Final = ("north", "harbour", "hillside")
_PATIENTS: Final = 40
_TILES: Final = 100  # of the harmed hospital
_SPOILT: Final = 3
_STEPS: Final = 4
_SLOT: Final = 15
_AWAY_SECONDS: Final = 20.0
_PATIENCE: Final = 600.0
_FINGERPRINT: Final = re.compile(r"(?m)^\s+(\d{5}(?: \d{5}){5})\s*$")
_FILE_NAMES: Final = "metadata.csv"


@dataclass
class DeskConsortium:
    """Everything in `folder`; `end` ends every process."""

    folder: Path
    serving: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def settings(self) -> str:
        """The coordinator's settings file."""
        return str(self.folder / "colon" / "consortium.toml")

    def type_in(self, *words: str) -> str:
        """What a command prints; raises `RuntimeError` if it fails."""
        done = subprocess.run(
            self._argv(words), cwd=self.folder, env=self._env(), capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"craftsfl {' '.join(words)}: {done.stdout}{done.stderr}")
        return done.stdout

    def serve(self, *words: str) -> None:
        """Start what goes on until `end`."""
        log = self.folder / f"{len(self.serving)}.log"
        with log.open("wb") as stream:
            self.serving.append(
                subprocess.Popen(
                    self._argv(words),
                    cwd=self.folder,
                    env=self._env(),
                    stdout=stream,
                    stderr=stream,
                    start_new_session=True,
                )
            )

    def begin(self) -> None:
        """All commands of the first hour, up to `rounds start`."""
        sites = [word for name in _NAMES for word in ("--site", f"{name}={_PATIENTS}")]
        address = f"localhost:{_free_port()}"
        plan = ["--steps", str(_STEPS), "--slot", str(_SLOT), "--address", address]
        self.type_in("rounds", "init", "colon", *sites, *plan)
        for name in _NAMES:
            self.type_in("site", "init", name, "--name", name, "--data", f"tiles/{name}")
        cards = [f"{name}/{name}.card" for name in _NAMES]
        digits = _FINGERPRINT.findall(self.type_in("rounds", "add", self.settings, *cards))[-1]
        said = ("--yes", "--expect-fingerprint", digits, "--patient-ids-confirmed")
        for name in _NAMES:
            self.type_in("site", "join", f"{name}/site.toml", "colon/invitation.cfl", *said)
        self.serve("rounds", "serve", self.settings)
        for name in _NAMES:
            self.serve("site", "serve", f"{name}/site.toml", "--one-user-no-airlock")
        if not self.wait(lambda: b"Serving" in (self.folder / "0.log").read_bytes()):
            raise RuntimeError(f"Nobody serves.\n{self.logs()[-3000:]}")
        self.type_in("rounds", "start", self.settings, "--no-wait")

    def events(self, kind: str) -> list[dict[str, object]]:
        """The coordinator's events of a kind, in order."""
        file = self.folder / "colon" / "state" / "events.jsonl"
        lines = file.read_text("utf-8").splitlines() if file.exists() else []
        found = [json.loads(line) for line in lines if f'"event":"{kind}"' in line]
        return list(found)

    def wait(self, done: Callable[[], bool]) -> bool:
        """Whether `done` came true while there was patience."""
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            if done():
                return True
            time.sleep(0.2)
        return False

    def end(self) -> None:
        """End what goes on at every desk, the last one first."""
        for process in reversed(self.serving):
            process.terminate()  # a benchmark in the background ignores SIGINT, and so do these
        for process in self.serving:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()

    def logs(self) -> str:
        """All that the desks and the processes' own logs have said."""
        files = sorted(self.folder.rglob("*.log"))
        return "\n".join(file.read_text("utf-8", "replace") for file in files)

    def _argv(self, words: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-m", "craftsfl", *words]

    def _env(self) -> dict[str, str]:
        own = {"PYTHONPATH": str(Path(__file__).resolve().parents[1]), "OMP_NUM_THREADS": "1"}
        return {**os.environ, **own, "CRAFTSFL_CACHE": str(self.folder / "cache")}


def measure_desk(trials: int, only: str = "") -> list[BenchRow]:
    """A row for each fault that begins with `only`, each of `trials` studies of its own."""
    faults: dict[str, Callable[[DeskConsortium], None]] = {
        f"{_SPOILT} % unreadable tiles": _first_step,
        "folder vanishes": _away_for_a_while,
    }
    return [
        _sum(fault, [_study(fault, harm) for _ in range(trials)])
        for fault, harm in faults.items()
        if fault.startswith(only)
    ]


def _study(fault: str, harm: Callable[[DeskConsortium], None]) -> dict[str, int]:
    with tempfile.TemporaryDirectory(prefix="craftsfl-desk-") as folder:
        desks = DeskConsortium(Path(folder))
        for number, name in enumerate(_NAMES):
            spoilt = _SPOILT if "unreadable" in fault and number == 0 else 0
            _draw_tiles(desks.folder / "tiles" / name, number, spoilt)
        try:
            desks.begin()
            harm(desks)
            before = len(desks.events("round-finished"))
            desks.wait(lambda: _over(desks))
            return _figures(desks, before)
        finally:
            desks.end()


def _over(desks: DeskConsortium) -> bool:
    return bool(desks.events("run-finished") or desks.events("run-failed"))


def _first_step(desks: DeskConsortium) -> None:
    if not desks.wait(lambda: bool(desks.events("round-finished")) or _over(desks)):
        raise RuntimeError(f"No step was opened.\n{desks.logs()[-3000:]}")


def _away_for_a_while(desks: DeskConsortium) -> None:
    _first_step(desks)
    folder = desks.folder / "tiles" / _NAMES[0]
    folder.rename(folder.with_name("away"))
    sys.stderr.write("The folder is away.\n")
    time.sleep(_AWAY_SECONDS)
    folder.with_name("away").rename(folder)


def _figures(desks: DeskConsortium, before: int) -> dict[str, int]:
    state = desks.folder / _NAMES[0] / "state"
    began: set[tuple[object, object]] = {
        (e.get("round"), e.get("attempt")) for e in desks.events("round-started")
    }
    entries = read_ledger(state / "ledger.sqlite").entries()
    charged: set[tuple[object, object]] = {
        (entry.key.round, entry.key.attempt) for entry in entries
    }
    steps, ended = len(desks.events("round-finished")), desks.events("run-failed")
    listed = (state / "quarantine.csv").read_text("utf-8").splitlines()[1:]
    return {
        "resumed": int(steps > before),
        "stopped_in_words": int(bool(ended) and bool(ended[-1].get("reason"))),
        "uncaused_charges": len(charged - began),
        "left_out": len(listed),
        "steps": steps,
        "tracebacks": desks.logs().count("Traceback (most recent call last)"),
    }


def _sum(fault: str, found: list[dict[str, int]]) -> BenchRow:
    total = {name: sum(one[name] for one in found) for name in found[0]}
    return {"fault": fault, "trials": len(found), **total}


def _draw_tiles(folder: Path, seed: int, spoilt: int) -> None:
    """So many JPEG tiles of noise with a table; the last `spoilt` are cut in the middle."""
    folder.mkdir(parents=True)
    draw = np.random.default_rng(seed)
    lines = ["file_name,text,patient_id"]
    for number in range(_TILES):
        path = folder / f"{number}.jpg"
        coarse = draw.integers(120, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((64, 64)).save(path)
        lines.append(f"{path.name},drawn glands,P{seed}-{number % _PATIENTS}")
        if number >= _TILES - spoilt:
            data = path.read_bytes()
            path.write_bytes(data[: len(data) // 2])
    (folder / _FILE_NAMES).write_text("\n".join(lines) + "\n", "utf-8")


def _free_port() -> int:
    from craftsfl.processes.supervisor import claim_port

    return claim_port("127.0.0.1", None)
