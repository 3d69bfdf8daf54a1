"""The training loop that all stages share: schedule, shards, EMA, checkpoints."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from model.lab.pretraining.recipe import Progress
from privacy.files import PUBLIC, replacing

_log = logging.getLogger(__name__)
TensorBatch = tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Schedule:
    """AdamW with linear warm-up and cosine decay (Loshchilov and Hutter 2017)."""

    steps: int
    rate: float
    warm_up: int = 100
    weight_decay: float = 0.01
    ema_decay: float = 0.0
    checkpoint_every: int = 300

    def rate_at(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        warm = min(1.0, (step + 1) / max(1, min(self.warm_up, self.steps)))
        return self.rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / self.steps)))


@dataclass(frozen=True)
class Task:
    """What a stage trains: its modules, its batches, its loss.

    batch(step) depends on nothing but the step, so that a resumed run draws the same;
    loss(shard) is a mean over the shard. module is one container of everything trained.
    """

    name: str
    module: nn.Module
    batch: Callable[[int], TensorBatch]
    loss: Callable[[TensorBatch], torch.Tensor]


@contextmanager
def _threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """A pool of single-threaded workers: they meet once a step, not in every operation."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if count > 1 else before)
    with ThreadPoolExecutor(count) as pool:
        yield pool
    torch.set_num_threads(before)


def _gradients(
    task: Task, parameters: Sequence[torch.Tensor], shard: TensorBatch
) -> tuple[float, tuple[torch.Tensor, ...]]:
    loss = task.loss(shard)
    return float(loss.detach()), torch.autograd.grad(loss, parameters)


class TaskTrainer:
    """Runs one task to its last step; a killed run can continue from its newest checkpoint."""

    def __init__(self, task: Task, schedule: Schedule, workspace: Path, shards: int) -> None:
        self.task, self.schedule = task, schedule
        self.shards = 1 if torch.cuda.is_available() else shards
        self.file = workspace / f"{task.name}.pt"
        self.parameters: list[torch.Tensor] = [
            p for p in task.module.parameters() if p.requires_grad
        ]
        self.optimiser = torch.optim.AdamW(
            self.parameters, lr=schedule.rate, weight_decay=schedule.weight_decay
        )
        self.averages = [p.detach().clone() for p in self.parameters]
        self.step = 0
        if self.file.exists():
            self._resume()

    def run(
        self, on_progress: Progress, on_checkpoint: Callable[[int], None] | None = None
    ) -> None:
        """Train to the end, then leave the averaged weights in the module."""
        running = 0.0
        with _threads(self.shards) as pool:
            while self.step < self.schedule.steps:
                loss = self._one_step(pool)
                running = loss if running == 0 else 0.98 * running + 0.02 * loss
                self.step += 1
                on_progress(self.task.name, self.step, self.schedule.steps)
                if self.step % 50 == 0:
                    _log.info("%s step %d loss %.4f", self.task.name, self.step, running)
                if self.step % self.schedule.checkpoint_every == 0:
                    self._save()
                    if on_checkpoint is not None:
                        on_checkpoint(self.step)
        self._save()
        self.use_averages()

    def use_averages(self) -> None:
        """Put the averaged weights into the module."""
        if self.schedule.ema_decay > 0:
            with torch.no_grad():
                torch._foreach_copy_(self.parameters, self.averages)

    def _one_step(self, pool: ThreadPoolExecutor) -> float:
        batch = self.task.batch(self.step)
        parts = zip(*(t.chunk(self.shards) for t in batch), strict=True)
        results = list(pool.map(lambda part: _gradients(self.task, self.parameters, part), parts))
        for index, parameter in enumerate(self.parameters):
            parts_of_it = [gradients[index] for _, gradients in results]
            parameter.grad = torch.stack(parts_of_it).mean(dim=0)
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for group in self.optimiser.param_groups:
            group["lr"] = self.schedule.rate_at(self.step)
        self.optimiser.step()
        # early on a long average would hold the random start
        decay = min(self.schedule.ema_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(self.averages, self.parameters, 1 - decay)
        return sum(loss for loss, _ in results) / len(results)

    def _save(self) -> None:
        state = {
            "step": self.step,
            "module": self.task.module.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "averages": self.averages,
        }
        with replacing(self.file, PUBLIC) as stream:
            torch.save(state, stream)

    def _resume(self) -> None:
        state = torch.load(self.file, self.parameters[0].device, weights_only=True)
        self.step = state["step"]
        self.task.module.load_state_dict(state["module"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.averages = state["averages"]
        _log.info("%s continues from step %d", self.task.name, self.step)
