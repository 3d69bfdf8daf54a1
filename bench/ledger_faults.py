"""What is lost, overspent or released twice when a site is killed or its disk fails.

Rows: `fault`, `trials`, `lost`, `overspent`, `double_released`, `stuck`. In every trial a
coordinator asks a real site agent (with a quick trainer) for rounds and records the answers and
updates that it receives; the site is harmed at a seeded point, restarted until its rounds are done,
and then its ledger is compared with the record:

- lost: attempts that were acknowledged but are missing from the ledger, or less far along there;
- overspent: trials after which the ledger's epsilon is below that of the updates that left;
- double_released: attempts for which two different updates left;
- stuck: trials after which the site did not continue by itself. A file that was cut or flipped may
  be refused, with a message and a way out; the site must then continue once the file is restored.
"""

from __future__ import annotations

import copy
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final, get_args

from bench.fault_peers import beginning, largest_answer, question
from bench.fault_site import (
    ATTEMPTS,
    FAULT_STUDY,
    PATIENCE,
    REFUSED,
    ForkedSite,
    Place,
    Trap,
)
from bench.output import BenchRow
from privacy.accounting import epsilon
from privacy.budget import Book
from privacy.ledger import AttemptKey, LedgerView, State, read_ledger
from privacy.study.terms import event_of
from privacy.wire.bodies import Body, Refusal, Running
from privacy.wire.envelope import Envelope, open_envelope, seal
from privacy.wire.offer import TrainMasked
from privacy.wire.reasons import Reason
from privacy.wire.secagg import Advertise, Deliver, MaskedInput

RUN: Final = 7
FAULT_ROUNDS: Final = 3  # before the harm, or around it
LEDGER: Final = "ledger.sqlite"
_MAIN: Final = (LEDGER, f"{LEDGER}-wal")  # hold the records, and are harmed most often
HARMED: Final = (*_MAIN, *_MAIN, *_MAIN, f"{LEDGER}-shm", f"{LEDGER}.head", "ledger.key")
_POLL_SECONDS: Final = 0.001
_LIMIT: Final = largest_answer()


@dataclass(frozen=True)
class Verdict:
    """What one or several trials revealed; all counts should be 0."""

    lost: int = 0
    overspent: int = 0
    double_released: int = 0
    stuck: int = 0

    def __add__(self, other: Verdict) -> Verdict:
        mine, its = asdict(self), asdict(other)
        return Verdict(**{name: mine[name] + its[name] for name in mine})


@dataclass
class Coordinator:
    """Asks for rounds, and remembers the answers and the updates that it received."""

    round: int = 1
    attempt: int = 1
    started: dict[AttemptKey, TrainMasked] = field(default_factory=dict)  # acknowledged intents
    due: dict[AttemptKey, Deliver] = field(default_factory=dict)  # the questions for their updates
    left: dict[AttemptKey, set[bytes]] = field(default_factory=dict)  # what left, per attempt

    def drive(self, site: ForkedSite, rounds: int) -> bool:
        """Ask until `rounds` are done; False if the site died or could not continue."""
        for key in sorted(self.started):  # the site may have died since: what can it still deliver?
            if key in self.due:
                self._note(key, self._ask(site, key, self.due[key]))
            body = self._ask(site, key, self.started[key])
            if isinstance(body, Advertise):
                self._collected(site, key, body)
        while self.round <= rounds and self.attempt <= ATTEMPTS:
            key = AttemptKey(FAULT_STUDY.digest(), RUN, self.round, self.attempt)
            if self.left.get(key, {b"failed"}) != {b"failed"}:  # a site that forgets gave it anew
                self.round, self.attempt = self.round + 1, 1
                continue
            train = self.started.get(key) or beginning(key)
            body = self._ask(site, key, train)
            if body == Refusal(Reason.NOT_NEWER):
                self.attempt += 1
            elif not isinstance(body, Advertise):
                return False
            else:
                self.started[key] = train
                if not self._collected(site, key, body):
                    return False
                self.round, self.attempt = self.round + 1, 1
        return self.round > rounds

    def judge(self, ledger: LedgerView) -> Verdict:
        """Compare with the ledger."""
        states = {entry.key: entry.state for entry in ledger.entries()}
        lost = {key for key in self.started if key not in states}
        lost |= {key for key in self.left if states.get(key) is not State.COMMITTED}
        event = event_of(FAULT_STUDY)
        left = epsilon([event] * len(self.left), FAULT_STUDY.privacy.delta)
        spent = Book.of(ledger.entries()).study_epsilon(FAULT_STUDY.digest())
        twice = sum(len(updates) > 1 for updates in self.left.values())
        return Verdict(len(lost), int(spent < left), twice)

    def _collected(self, site: ForkedSite, key: AttemptKey, advertise: Advertise) -> bool:
        ask = partial(self._ask, site, key)
        due = question(self.started[key], advertise, ask)
        if due is None:
            return False
        self.due[key] = due
        body: Body | None = Running()
        end = time.monotonic() + PATIENCE
        while body == Running() and time.monotonic() < end:
            time.sleep(_POLL_SECONDS)
            body = ask(due)
        self._note(key, body)
        return isinstance(body, MaskedInput)

    def _note(self, key: AttemptKey, body: Body | None) -> None:
        if isinstance(body, MaskedInput):
            self.left.setdefault(key, set()).add(body.encode())
        elif body == Refusal(Reason.NO_UPDATE):
            self.left.setdefault(key, set()).add(b"failed")

    def _ask(self, site: ForkedSite, key: AttemptKey, body: Body) -> Body | None:
        reply = site.ask(seal(Envelope(key.run, key.round, key.attempt, body)))
        if reply is None:
            return None
        return open_envelope(reply, limit=_LIMIT).body


def one_site(coordinator: Coordinator, site: ForkedSite, rounds: int) -> tuple[bool, int]:
    """Drive one site process to its end; returns whether the rounds are done, and its status."""
    done = site.ready() and coordinator.drive(site, rounds)
    return done, site.stop()


def finish(coordinator: Coordinator, folder: Path, rounds: int) -> Verdict:
    """Restart the site, unharmed, and compare once its rounds are done."""
    done, status = one_site(coordinator, ForkedSite(folder), rounds)
    if not done or status != 0:
        return Verdict(stuck=1)
    return coordinator.judge(read_ledger(folder / LEDGER))


def killed(place: Place | None, seed: int, lines: int, seconds: float) -> Verdict | None:
    """Kill a new site and then its successor, in `place` or at any time; None if neither died."""
    draw, coordinator, deaths = random.Random(f"{place} {seed}"), Coordinator(), 0
    with fresh_folder() as folder:
        for share in (1.0, draw.choice((0.0, 0.3))):
            if not share:
                continue
            trap = Trap(place, draw.randint(1, max(1, int(share * lines)))) if place else None
            site = ForkedSite(folder, trap=trap)
            if place is None:
                site.kill_after(draw.uniform(0, share * seconds))
            _, status = one_site(coordinator, site, FAULT_ROUNDS)
            deaths += status == -9
            if status not in (0, -9):
                return Verdict(stuck=1)
        return finish(coordinator, folder, FAULT_ROUNDS) if deaths else None


def harmed(harm: Callable[[Path, random.Random], None], seed: int) -> Verdict:
    """Harm one file of a site that was killed (its log still open) or had stopped by itself."""
    draw, coordinator = random.Random(f"{harm.__name__} {seed}"), Coordinator()
    with fresh_folder() as folder, fresh_folder() as backup:
        site = ForkedSite(folder)
        if not (site.ready() and coordinator.drive(site, FAULT_ROUNDS)):
            return Verdict(stuck=1)
        if draw.random() < 0.5:
            site.kill()
        site.stop()
        shutil.copytree(folder, backup, dirs_exist_ok=True)
        harm(draw.choice([file for file in map(folder.joinpath, HARMED) if file.exists()]), draw)
        outside = copy.deepcopy(coordinator)
        done, status = one_site(outside, ForkedSite(folder), FAULT_ROUNDS + 1)
        if status == 0 and done:
            return outside.judge(read_ledger(folder / LEDGER))
        refused = Verdict(stuck=int(status != REFUSED))
        return refused + finish(coordinator, backup, FAULT_ROUNDS + 1)


def cut(file: Path, draw: random.Random) -> None:
    """Keep only the beginning of `file`."""
    data = file.read_bytes()
    file.write_bytes(data[: draw.randrange(len(data) or 1)])


def flip(file: Path, draw: random.Random) -> None:
    """Change one bit of `file`."""
    data = bytearray(file.read_bytes())
    if data:
        place = draw.randrange(8 * len(data))
        data[place // 8] ^= 1 << place % 8
        file.write_bytes(data)


def filled(seed: int, largest: int) -> Verdict:
    """No file of the site may grow beyond a limit, from the start or after some rounds."""
    draw, coordinator = random.Random(f"full {seed}"), Coordinator()
    with fresh_folder() as folder:
        rounds = draw.randint(0, FAULT_ROUNDS - 1)
        if rounds:
            one_site(coordinator, ForkedSite(folder), rounds)
        site = ForkedSite(folder, file_limit=draw.randrange(largest))
        _, status = one_site(coordinator, site, FAULT_ROUNDS)
        stuck = Verdict(stuck=int(status not in (0, REFUSED)))
        return stuck + finish(coordinator, folder, FAULT_ROUNDS)


def measure_ledger(seeds: int) -> list[BenchRow]:
    """All faults: `seeds` kills, and a fifth of that number for each other fault."""
    event = event_of(FAULT_STUDY)
    for charges in range(1, 2 * FAULT_ROUNDS + 4):  # the forked sites inherit what is computed here
        epsilon([event] * charges, FAULT_STUDY.privacy.delta)
    places: tuple[Place | None, ...] = (*get_args(Place), None)
    rows = []
    for number, place in enumerate(places):
        trials = (seeds + len(places) - 1 - number) // len(places)
        lines, seconds = rehearse(place or "ledger")
        outcomes = (killed(place, seed, lines, seconds) for seed in range(8 * trials + 8))
        name = f"SIGKILL in {place}" if place else "SIGKILL at any time"
        rows.append(row(name, trials, (found for found in outcomes if found is not None)))
    others = max(3, seeds // 5)
    rows.append(row("file cut", others, (harmed(cut, seed) for seed in count())))
    rows.append(row("bit flipped", others, (harmed(flip, seed) for seed in count())))
    rows.append(row("disk full", others, (filled(seed, 90_000) for seed in count())))
    return rows


def row(fault: str, trials: int, outcomes: Iterator[Verdict]) -> BenchRow:
    """The sum of the next `trials` outcomes, or of all if there are fewer."""
    found, ran = Verdict(), 0
    for ran, verdict in enumerate(outcomes, start=1):
        found += verdict
        if ran == trials:
            break
    return {"fault": fault, "trials": ran, **asdict(found)}


def rehearse(place: Place) -> tuple[int, float]:
    """The number of lines that an unharmed new site executes in `place`, and its seconds."""
    with fresh_folder() as folder:
        one_site(Coordinator(), ForkedSite(folder, trap=Trap(place, 0)), FAULT_ROUNDS)
        lines = int((folder / "passed").read_text())
    with fresh_folder() as folder:
        start = time.perf_counter()
        one_site(Coordinator(), ForkedSite(folder), FAULT_ROUNDS)
        return lines, time.perf_counter() - start


@contextmanager
def fresh_folder() -> Iterator[Path]:
    """A temporary empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)
