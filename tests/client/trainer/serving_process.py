"""A process that serves a fake trainer at the end of a channel that it was given."""

from __future__ import annotations

import socket
import sys

from client.trainer.channel import Channel
from client.trainer.frames import FROM_AGENT, FromAgent
from client.trainer.serving import serve_trainer
from model.layout import Layout, LayoutEntry

from ..fakes import FakeTrainer


class Served(FakeTrainer):
    """Its adapter has as many numbers as the process was told."""

    def __init__(self, parameters: int) -> None:
        super().__init__()
        self.layout = Layout((LayoutEntry("unet.lora_B", (1, parameters), "float32"),))

    def apply(self) -> None:
        """Nobody withdraws."""


if __name__ == "__main__":
    channel: Channel[FromAgent] = Channel(
        socket.socket(fileno=int(sys.argv[1])), FROM_AGENT, 1 << 33
    )
    sys.exit(serve_trainer(channel, lambda _: Served(int(sys.argv[2]))))
