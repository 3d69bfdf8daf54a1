"""What a trainer's process does, from its orders to its exit status."""

from __future__ import annotations

import logging
import socket
from contextlib import ExitStack
from pathlib import Path

from client.agent.apart import check_alone
from client.agent.boundary import Failure, configure_logs, contained
from client.agent.isolation import confinement
from client.agent.startup import RuledSite, load_rules
from client.agent.state import StateFolder, trainer_held
from client.agent.withdrawals import ConsentingTrainer
from client.trainer.channel import Channel
from client.trainer.frames import FROM_AGENT, FromAgent
from client.trainer.loading import TrainerFactory, load_consenting
from client.trainer.orders import Orders, TrainerExit
from client.trainer.serving import OnEncoded, serve_trainer
from model.heap import keep_freed_memory
from privacy.errors import ConfigError

_LIMIT = 1 << 33  # bytes of a frame: the agent is trusted, and has checked the adapter
_log = logging.getLogger("craftsfl.agent")


def run_trainer(orders: Orders, end: socket.socket, make: TrainerFactory | None = None) -> int:
    """Serve the agent at the other `end` until something ends it; returns the exit status.

    `make` makes the resident trainer, see `load_consenting`.
    """
    configure_logs("trainer: ")
    keep_freed_memory()
    channel: Channel[FromAgent] = Channel(end, FROM_AGENT, _LIMIT)
    with ExitStack() as stack:

        def load(on_encoded: OnEncoded) -> ConsentingTrainer:
            site = _site(orders)
            check_alone(confinement(), site.rules.policy)
            state = StateFolder(site.settings.agent.state)
            stack.enter_context(trainer_held(state))
            return load_consenting(site, state, on_encoded, stack, make)

        status = contained(lambda: serve_trainer(channel, load))
    if isinstance(status, Failure):
        _log.error("The trainer ended: %s", status.text)
        return TrainerExit.UNEXPECTED
    return status


def _site(orders: Orders) -> RuledSite:
    site = load_rules(Path(orders.site))
    if site.rules.study.digest().hex() != orders.study:
        raise ConfigError(
            f"{site.settings.study} was changed while the agent ran.",
            "Put the study back that the consortium agreed on, or start the agent again.",
        )
    return site
