"""A trainer process whose model is a fake: started by `tests.client.agent_process`.

Loading waits while the file HOLD-LOADING is in the state folder, training while HOLD-TRAINING is;
STUCK makes training ignore that it should stop. GREEDY makes it allocate until it has no more.
"""

from __future__ import annotations

import logging
import resource
import socket
import time
from pathlib import Path

from client.agent.startup import RuledSite
from client.agent.state import StateFolder
from client.data import SiteData
from client.trainer import running
from client.trainer.orders import Orders
from client.trainer.serving import OnEncoded

from .fakes import FakeTrainer

STEP_SECONDS = 0.05
GREED = 1 << 30  # bytes of address space above what the process has


def make_trainer(
    site: RuledSite, data: SiteData, state: StateFolder, on_encoded: OnEncoded
) -> FakeTrainer:
    """A trainer that logs health data, as a careless library would."""
    for name in ("diffusers.pipelines", "tests.canary"):
        logging.getLogger(name).error("truncated: %s", data.tiles[0].caption)
    while (state.path / "HOLD-LOADING").exists():
        time.sleep(STEP_SECONDS)
    if (state.path / "BROKEN").exists():
        raise KeyError("canary caption 1")
    trainer = FakeTrainer()

    def on_start() -> None:
        if (state.path / "HOLD-TRAINING").exists():
            trainer.gate.clear()
        while (state.path / "STUCK").exists():
            time.sleep(STEP_SECONDS)
        if (state.path / "GREEDY").exists():
            (state.path / "GREEDY").unlink()
            take_all()

    trainer.on_start = on_start
    return trainer


def take_all() -> None:
    """Allocate until the system refuses."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + GREED
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    taken = []
    while True:
        taken.append(bytearray(1 << 26))


def run_trainer(orders: Orders, end: socket.socket) -> int:
    """As `client.trainer.running`, with the fake."""
    return running.run_trainer(orders, end, make_trainer)
