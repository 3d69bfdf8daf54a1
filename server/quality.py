"""A public figure every k rounds: does the adapter learn? Measured beside the rounds.

Denoising loss, and with a judge alignment, on public tiles that no site trains on, of the base and
of adapters that are released anyway: no site is asked, and nothing private is looked at. A process
of its own computes at the lowest priority; a round that is due while it still computes is skipped,
except the last. Without figures a run goes on as before: whatever is wrong becomes a warning.
"""

# Why: docs/adr/0037-mlflow-is-never-waited-for.md

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from privacy.errors import CraftsflError
from server.context import RunContext
from server.events import QualityMeasured, Warned
from server.settings import ConsortiumSettings, QualitySettings
from server.status import QualityStatus, RunStatus

WORKER: Final = "craftsfl.rounds.quality"
LAST_SECONDS: Final = 60.0  # that the end of a run waits for the figure of its last round
_STARTS: Final = 2  # of the process, in one run


@dataclass(frozen=True, slots=True)
class QualityOrder:
    """What the process is told first; `tiles` and `images` are upper bounds.

    `pictures`: where the study's prompts are drawn for each figure; None: they are not.
    """

    study: Path
    base: Path
    folders: tuple[Path, ...]
    cache: Path
    device: str
    tiles: int
    judge: str | None
    images: int
    pictures: Path | None = None

    def encode(self) -> str:
        """A line of JSON."""
        return json.dumps(asdict(self), default=str) + "\n"


def read_order(line: str) -> QualityOrder:
    """What `encode` wrote."""
    values = json.loads(line)
    folders = tuple(Path(folder) for folder in values["folders"])
    paths = {name: Path(values[name]) for name in ("study", "base", "cache")}
    if values["pictures"] is not None:
        paths["pictures"] = Path(values["pictures"])
    return QualityOrder(**{**values, **paths, "folders": folders})


def order_of(settings: ConsortiumSettings, quality: QualitySettings, base: Path) -> QualityOrder:
    """The order that `consortium.toml` asks for, on the study's base."""
    return QualityOrder(
        study=settings.study,
        base=base,
        folders=quality.folders,
        cache=settings.quality_cache(),
        device=settings.device,
        tiles=quality.tiles,
        judge=quality.judge,
        images=quality.images,
        pictures=settings.pictures_folder() if quality.pictures else None,
    )


@contextmanager
def watching_quality(
    settings: ConsortiumSettings, context: RunContext, base: Callable[[], Path]
) -> Iterator[QualityWatch | None]:
    """The watch that `[quality]` asks for, for one run; None without that table."""
    quality = settings.quality
    if quality is None:
        yield None
        return

    def start() -> subprocess.Popen[str]:
        return _process(order_of(settings, quality, base()), settings.quality_log())

    watch = QualityWatch(start, quality.every, context)
    try:
        yield watch
    finally:
        watch.close()


def picture_of(folder: Path, round: int, prompt: int) -> Path:
    """The file with what the adapter after `round` (0: the base) draws for a prompt (from 0)."""
    return folder / f"round-{round:04d}-{prompt + 1}.png"


class QualityWatch:
    """Follows a run as a `Tracker`; see this module. Only `finish` blocks, and nothing raises.

    `start` starts the process.
    """

    def __init__(
        self, start: Callable[[], subprocess.Popen[str]], every: int, context: RunContext
    ) -> None:
        self._new_process, self._every, self._context = start, every, context
        self._changed = threading.Condition()
        self._process: subprocess.Popen[str] | None = None
        self._starts = 0
        self._asked: int | None = None  # the round that is being measured; 0: the base
        self._last: _Adapter | None = None  # of the last round, if it has to wait

    @property
    def idle(self) -> bool:
        """Whether nothing is being measured."""
        with self._changed:
            return self._asked is None

    def begin(self) -> None:
        """Measure the base while the sites are greeted."""
        with self._changed:
            self._start()

    def round_finished(self, status: RunStatus) -> None:
        """Measure the newest adapter if it is due."""
        last = status.rounds_done == status.rounds
        if not (last or status.rounds_done % self._every == 0):
            return
        newest = self._context.store.last_adapter()
        with self._changed:
            self._start()
            if self._asked is None:
                self._ask(newest)
            elif last:
                self._last = newest

    def finish(self, seconds: float = LAST_SECONDS) -> None:
        """Wait for the figure of the last round, for at most so long."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._asked is None, seconds):
                self._warn(
                    f"the figure of round {self._asked} was not there {seconds:.0f} s after the "
                    "end. Name fewer tiles, or a quicker device, in consortium.toml."
                )
        self.close()

    def close(self) -> None:
        """End the process, whatever it does."""
        with self._changed:
            process, self._process = self._process, None
            self._starts = _STARTS
        if process is not None:
            process.kill()
            process.wait()

    def _start(self) -> None:
        """Start the process if there is none. Called, like `_ask`, with `_changed` held."""
        if self._process is not None or self._starts == _STARTS:
            return
        self._starts += 1
        try:
            self._process = self._new_process()
        except (CraftsflError, OSError) as error:
            self._starts = _STARTS
            self._warn(str(error))
            return
        self._asked = 0
        threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()

    def _ask(self, adapter: _Adapter | None) -> None:
        if adapter is None or self._process is None or self._process.stdin is None:
            return
        number, path, digest = adapter
        line = json.dumps({"round": number, "path": path, "sha256": digest})
        with suppress(OSError):  # it has ended: `_listen` says so
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
            self._asked = number

    def _listen(self, process: subprocess.Popen[str]) -> None:
        """Take the process's answers until it ends; in a thread of its own."""
        why = ""
        for line in process.stdout or ():
            answer: dict[str, Any] = json.loads(line)
            if "error" in answer:
                why = answer["error"]
                continue
            with suppress(CraftsflError):  # a full disk: the rounds will notice it themselves
                self._keep(answer)
            with self._changed:
                self._asked = None
                waiting, self._last = self._last, None
                self._ask(waiting)
                self._changed.notify_all()
        status = process.wait()
        with self._changed:
            if self._process is process:  # it ended by itself
                self._process, self._asked = None, None
                self._starts = _STARTS if why else self._starts  # it would say the same again
                self._warn(why or f"the process that measures it ended with status {status}.")
            self._changed.notify_all()

    def _keep(self, answer: dict[str, Any]) -> None:
        """To the round state, and then to the events."""
        for values in answer.get("figures", ()):
            measured = self._context.clock.time()
            figure = QualityStatus(round=answer["round"], measured=measured, **values)
            self._context.store.keep_quality(figure)
            facts = {name: value for name, value in asdict(figure).items() if name != "measured"}
            self._context.emit(QualityMeasured(**facts))

    def _warn(self, why: str) -> None:
        with suppress(CraftsflError):
            self._context.emit(Warned(f"No public quality figure: {why}"))


_Adapter = tuple[int, str, str]  # round, path, SHA-256 of an adapter in the round state


def _process(order: QualityOrder, log: Path) -> subprocess.Popen[str]:
    """The process, with its order. It finds the installed modules only (-P)."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as errors:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            encoding="utf-8",
        )
    if process.stdin is not None:
        with suppress(OSError):
            process.stdin.write(order.encode())
            process.stdin.flush()
    return process
