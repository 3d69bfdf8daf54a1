"""A small message to each site and back, on a real SuperLink, and what the processes weigh."""

from __future__ import annotations

import statistics
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from bench.small_flower import SmallFlower, echo_script
from craftsfl.processes.supervisor import StartedProcess

MESSAGES: Final = 20
_SAMPLE_SECONDS: Final = 0.2
_MEBIBYTE: Final = 1 << 20


@dataclass(frozen=True)
class SmallMessage:
    """Of one kind of forwarder."""

    median: float  # seconds there and back
    slowest: float
    process: float  # MiB of the largest network-facing process
    site: float  # MiB of all of a site's network-facing processes together


def measure_small_message(kind: str, sites: int = 3, messages: int = MESSAGES) -> SmallMessage:
    """`messages` to each of `sites` at once, `kind` of forwarder: "gateway" or "supernode"."""
    with tempfile.TemporaryDirectory() as folder, SmallFlower(Path(folder) / "small") as flower:
        started: list[list[StartedProcess]] = []
        for number in range(sites):
            site = flower.site(f"site-{number}", kind)
            flower.register(site)
            flower.start_agent(site, lambda data: data)
            started.append(flower.start_gateway(site))
        weight = _Weight(started)
        said = flower.run(echo_script(sites, messages), seconds=600)
        weight.stop()
    seconds = said["seconds"]
    if not isinstance(seconds, list) or said["failed"]:
        raise ValueError(f"some messages had no answer: {said}")
    return SmallMessage(statistics.median(seconds), max(seconds), weight.process, weight.site)


class _Weight:
    """Watches the resident memory of each site's processes, with what they start."""

    def __init__(self, sites: Sequence[Sequence[StartedProcess]]) -> None:
        self.process = self.site = 0.0
        self._sites = [[psutil.Process(one.process.pid) for one in site] for site in sites]
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no longer."""
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(_SAMPLE_SECONDS):
            for site in self._sites:
                found = [_resident(one) for process in site for one in _family(process)]
                self.site = max(self.site, sum(found))
                self.process = max(self.process, *found, 0.0)


def _family(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def _resident(process: psutil.Process) -> float:
    try:
        return float(process.memory_info().rss) / _MEBIBYTE
    except psutil.Error:  # it has just ended
        return 0.0
