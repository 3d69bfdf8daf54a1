"""A hospital's agent with a trainer that draws numbers: `python -m bench.plane_site FOLDER`.

Everything else is real: identity, roster, ledger, socket, masks. The updates are random, so that an
attempt that was trained twice shows; their digests and the moments are in FOLDER/released.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from client.agent.log_file import LogFile
from client.agent.masking import Membership
from client.agent.progress import ProgressSource
from client.agent.ready import ReadyAgent, SiteMemory
from client.agent.service import serve
from client.agent.site_agent import AgentParts
from client.policy import SiteRules
from client.settings import Policy
from craftsfl.processes.supervisor import Command
from model.layout import Layout
from model.layout_text import decode_layout
from privacy.identity import load_identity
from privacy.ledger import SqliteLedger, load_or_make_key
from privacy.ledger.anchors import Anchors
from privacy.study.agreement import roster_in_force
from privacy.study.manifest import Study, load_study
from privacy.wire.codec import Vector
from privacy.wire.envelope import open_envelope
from privacy.wire.sealed import Sealed
from privacy.wire.secagg import MaskedInput

SITE_FILE, SITE_KEY, SITE_LAYOUT = "site.json", "site.key", "layout.json"
SITE_LEDGER, SITE_LOG, RELEASED = "ledger.sqlite", "log.json", "released"
_LARGEST_UPDATE: Final = 1e-3


@dataclass(frozen=True)
class DrawsNumbers:
    """A trainer that is done at once."""

    layout: Layout

    def train(
        self,
        adapter: Vector,
        *,
        progress: Callable[[int, int], None],
        should_stop: Callable[[], bool],
    ) -> Vector:
        """See `client.training.RoundTrainer`."""
        progress(1, 1)
        drawn = np.frombuffer(os.urandom(4 * adapter.size), np.uint32)
        return (drawn / 2**32 * _LARGEST_UPDATE).astype(np.float32)

    def clipped_sum(
        self,
        adapter: Vector,
        step: int,
        *,
        progress: Callable[[int, int], None],
        should_stop: Callable[[], bool],
    ) -> NDArray[np.int64]:
        """See `client.training.RoundTrainer`."""
        progress(1, 1)
        drawn = np.frombuffer(os.urandom(4 * adapter.size), np.int32)
        return (drawn >> 16).astype(np.int64)  # up to 2^15 of 2^30: as small as `train`'s

    def withdraw(self, patients: Collection[int]) -> None:
        """Nobody is here."""


def policy_of_site(study: Study, roster: str) -> Policy:
    """A policy that allows whatever `study` may cost."""
    return Policy(
        epsilon=1e6,
        study_epsilon=1e6,
        delta=study.privacy.delta,
        studies=("any",),
        bases=("any",),
        mechanisms=(study.privacy.mechanism,),
        roster=roster,
        max_attempts=study.privacy.attempts,
        max_lost_attempts=study.most_attempts,
        max_rounds=study.rounds,
        min_reply_slot=study.cohort.reply_slot,
    )


def main(folder: Path) -> None:
    """Serve until SIGTERM."""
    facts = json.loads((folder / SITE_FILE).read_text("utf-8"))
    study = load_study(Path(facts["study"]))
    layout = decode_layout((folder / SITE_LAYOUT).read_bytes())
    roster = roster_in_force(study, Path(facts["roster"]))
    rules = SiteRules(facts["name"], study, policy_of_site(study, roster.digest().hex()))
    path = folder / SITE_LEDGER
    key = load_or_make_key(folder / "ledger.key", ledger=path)
    identity = load_identity(folder / SITE_KEY)
    with SqliteLedger(path, key, site=facts["name"], anchors=Anchors(identity)) as ledger:
        progress = ProgressSource()
        parts = AgentParts(rules, ledger, DrawsNumbers(layout), progress)
        memory = SiteMemory(log=LogFile(folder / SITE_LOG))
        agent = ReadyAgent(parts, Membership(identity, roster), memory).make()

        def handle(data: bytes) -> bytes:
            answer = agent.handle(data)
            _note_release(folder / RELEASED, answer)
            return answer

        service = serve(handle, progress, Path(facts["socket"]), limit=agent.limit)
        service.set_ready(True)
        ended = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: ended.set())
        ended.wait()
        agent.stop(5.0)
        service.stop()


def _note_release(file: Path, answer: bytes) -> None:
    """Write down a masked update before it leaves: run, round, attempt, digest, time."""
    envelope = open_envelope(answer, limit=2**31)
    if isinstance(envelope.body, MaskedInput | Sealed):
        import hashlib

        digest = hashlib.sha256(envelope.body.encode()).hexdigest()
        words = (envelope.run, envelope.round, envelope.attempt, digest, time.time())
        with file.open("a", encoding="utf-8") as stream:
            stream.write(" ".join(map(str, words)) + "\n")


def keep_site(folder: Path) -> None:
    """Keep agent and gateway running, as `craftsfl site serve` does; until SIGTERM."""
    from client.settings import SiteSettings
    from craftsfl.processes.environment import environment
    from craftsfl.processes.gateway_command import gateway_commands
    from craftsfl.processes.restarts import keep_running
    from craftsfl.processes.supervisor import Supervisor, ended_by_signals

    facts = json.loads((folder / SITE_FILE).read_text("utf-8"))
    name, logs = facts["name"], Path(facts["logs"])
    site = SiteSettings.model_validate(
        {
            "name": name,
            "study": facts["study"],
            "policy": folder / "policy.toml",
            "data": {"folder": folder},
            "agent": {"state": folder, "socket": facts["socket"]},
            "gateway": {
                "superlink": facts["superlink"],
                "root_certificates": facts["authority"],
                "key": folder / "supernode.key",
                "home": folder / "gateway",
            },
        }
    )
    root = str(Path(__file__).resolve().parents[1])
    env = environment(folder / "home", {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"})
    argv = (sys.executable, "-m", "bench.plane_site", str(folder))
    agent = Command(f"{name} agent", argv, env, logs / f"{name}-agent.log")
    commands = [agent, *gateway_commands(site, logs, prefix=f"{name}-")]
    if "clock" in facts:
        commands = [_moved(one, facts["clock"], root) for one in commands]
    with ended_by_signals(), Supervisor() as supervisor:
        keep_running(commands, supervisor, lambda: None)


def _moved(command: Command, clock: str, root: str) -> Command:
    """`command`, a Python module, on a machine whose clock follows the file `clock`."""
    module = command.argv[command.argv.index("-m") + 1 :]
    argv = (sys.executable, "-m", "bench.moved_clock", clock, *module)
    return replace(command, argv=argv, env={**command.env, "PYTHONPATH": root})


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        with contextlib.suppress(KeyboardInterrupt):  # a signal ends it
            keep_site(Path(sys.argv[2]))
    else:
        main(Path(sys.argv[1]))
