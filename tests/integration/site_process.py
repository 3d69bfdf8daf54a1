"""A hospital's agent with a trainer that adds a number: `python -m ...site_process FOLDER [TRAP]`.

Everything else is real: identity, roster, ledger, socket, masks. TRAP is `ROUND:KIND`: the process
kills itself with SIGKILL when a message of that kind arrives in that round, before it answers.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

from client.agent.masking import Membership
from client.agent.progress import ProgressSource
from client.agent.ready import ReadyAgent
from client.agent.service import serve
from client.agent.site_agent import AgentParts
from client.policy import SiteRules
from client.settings import Policy
from model.layout import Layout
from privacy.dpsgd.release import CONTRIBUTION_BITS
from privacy.identity import load_identity
from privacy.ledger import SqliteLedger, load_or_make_key
from privacy.study.agreement import roster_in_force
from privacy.study.manifest import load_study
from privacy.wire.envelope import open_envelope

STEP, SITE, KEY, LAYOUT = "step.json", "site.json", "site.key", "layout.pickle"
POLICY = {
    "epsilon": 1000.0,
    "delta": 1e-5,
    "study_epsilon": 1000.0,
    "studies": ("any",),
    "bases": ("any",),
    "mechanisms": ("local",),
    "min_noise_multiplier": 0.5,
}


class Adds:
    """Moves every number by the same step."""

    def __init__(self, layout: Layout, step: float) -> None:
        self.layout = layout
        self.step = step

    def train(
        self,
        adapter: np.ndarray,
        *,
        progress: Callable[[int, int], None],
        should_stop: Callable[[], bool],
    ) -> np.ndarray:
        progress(1, 1)
        return np.full_like(adapter, self.step)

    def clipped_sum(
        self,
        adapter: np.ndarray,
        step: int,
        *,
        progress: Callable[[int, int], None],
        should_stop: Callable[[], bool],
    ) -> np.ndarray:
        progress(1, 1)
        return np.full(adapter.shape, round(self.step * 2**CONTRIBUTION_BITS), np.int64)


def main(folder: Path, trap: str) -> None:
    facts = json.loads((folder / SITE).read_text())
    study = load_study(Path(facts["study"]))
    layout: Layout = pickle.loads((folder / LAYOUT).read_bytes())
    roster = roster_in_force(study, Path(facts["roster"]))
    policy = Policy.model_validate({**POLICY, "roster": roster.digest().hex()})
    rules = SiteRules(facts["name"], study, policy)
    path = folder / "ledger.sqlite"
    key = load_or_make_key(folder / "ledger.key", ledger=path)
    with SqliteLedger(path, key, site=facts["name"]) as ledger:
        progress = ProgressSource()
        parts = AgentParts(rules, ledger, Adds(layout, facts["step"]), progress)
        agent = ReadyAgent(parts, Membership(load_identity(folder / KEY), roster)).make()

        def handle(data: bytes) -> bytes:
            envelope = open_envelope(data, limit=agent.limit)
            if trap == f"{envelope.round}:{type(envelope.body).__name__}":
                os.kill(os.getpid(), signal.SIGKILL)
            return agent.handle(data)

        service = serve(handle, progress, Path(facts["socket"]), limit=agent.limit)
        service.set_ready(True)
        ended = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: ended.set())
        while not ended.wait(0.2):
            pass
        agent.stop(5.0)
        service.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "")
