"""Sums between two real processes: the keeper here, the serving there."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from client.trainer.channel import Channel
from client.trainer.frames import FROM_TRAINER, FromTrainer
from client.trainer.keeper import TrainerKeeper
from client.trainer.process import FIRST_LIMIT, TrainerProcess

PARAMETERS = FIRST_LIMIT // 8 + 1  # of int64, one more than fit into a frame of an unknown trainer
ADAPTER = np.zeros(PARAMETERS, np.float32)


@dataclass(frozen=True)
class Started(TrainerProcess):
    """A trainer that this test has started itself."""

    process: subprocess.Popen[bytes] | None = None

    def end(self) -> int:
        assert self.process is not None
        self.channel.close()
        return self.process.wait(20)


def start() -> Started:
    ours, its = socket.socketpair()
    with its:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.client.trainer.serving_process"),
                *(str(its.fileno()), str(PARAMETERS)),
            ],
            pass_fds=[its.fileno()],
        )
    channel: Channel[FromTrainer] = Channel(ours, FROM_TRAINER, FIRST_LIMIT)
    return Started(channel, process.pid, None, process)  # type: ignore[arg-type]


@pytest.fixture
def keeper() -> Iterator[TrainerKeeper]:
    keeper = TrainerKeeper(start)
    keeper.start()
    yield keeper
    keeper.stop()


def test_a_large_sum_comes_back_whole_and_so_does_the_next(keeper: TrainerKeeper) -> None:
    for step in (1, 7):
        seen: list[object] = []
        total = keeper.clipped_sum(
            ADAPTER,
            step,
            progress=lambda *at, into=seen: into.append(at),  # type: ignore[misc]
            should_stop=lambda: False,
        )
        assert total.dtype == np.int64
        assert total.shape == ADAPTER.shape
        assert (total == step + 1).all()
        assert seen == [(done, 4) for done in range(5)]
