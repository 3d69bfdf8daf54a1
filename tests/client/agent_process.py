"""An agent process with a fake trainer: `python -m tests.client.agent_process --site site.toml`.

With `--one-user-no-airlock` behind it for tests that speak to it as its own user.

Loading waits while the file HOLD-LOADING is in the state folder, training while HOLD-TRAINING is;
STUCK makes training ignore that it should stop. No update is late, however slow the machine is.
"""

from __future__ import annotations

if __name__ == "__main__":
    from client.agent.isolation import isolate

    isolate()

import functools
import logging
import sys
import time
from pathlib import Path

import client.agent.__main__ as agent_main
from client.agent.apart import ONE_USER
from client.agent.site_agent import AgentParts
from client.agent.startup import LoadedSite, OnEncoded
from client.agent.state import StateFolder
from client.data import SiteData

from .fakes import FakeTrainer, PausingClock

STEP_SECONDS = 0.05


def make_trainer(
    site: LoadedSite, data: SiteData, state: StateFolder, on_encoded: OnEncoded
) -> FakeTrainer:
    """A trainer that logs health data, as a careless library would."""
    for name in ("diffusers.pipelines", "tests.canary"):
        logging.getLogger(name).error("truncated: %s", data.tiles[0].caption)
    while (state.path / "HOLD-LOADING").exists():
        time.sleep(STEP_SECONDS)
    trainer = FakeTrainer()

    def on_start() -> None:
        if (state.path / "HOLD-TRAINING").exists():
            trainer.gate.clear()
        while (state.path / "STUCK").exists():
            time.sleep(STEP_SECONDS)

    trainer.on_start = on_start
    return trainer


if __name__ == "__main__":
    agent_main.PATIENCE_SECONDS = 1.0
    agent_main.AgentParts = functools.partial(AgentParts, clock=PausingClock())  # type: ignore[misc,assignment]
    one_user = ONE_USER in sys.argv[3:]
    sys.exit(agent_main.run_agent(Path(sys.argv[2]), trainer=make_trainer, one_user=one_user))
