"""The training loop: gradients over devices and micro-batches, averages, checkpoints."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import Tensor

from model.lab.stage_one.checkpoints import Checkpoints
from model.lab.stage_one.denoiser import Denoiser, TrainedPart, min_snr_weights
from model.lab.stage_one.examples import ExampleBatch
from model.lab.stage_one.latents import LatentSpace
from model.lab.stage_one.quarantine import Quarantine
from model.lab.stage_one.settings import StageOneSettings
from model.losses import NoiseSchedule
from privacy.errors import ModelError


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """How far a run is: `loss` is the mean since the last report, weighted as in training."""

    step: int
    steps: int
    loss: float
    rate: float
    images_per_second: float


@dataclass(frozen=True, slots=True)
class Frozen:
    """What is not trained: the autoencoder, and the text encoder (None if it is trained)."""

    space: LatentSpace
    cached: bool
    text_encoder: TrainedPart | None


# batches_from(first step): this process's micro-batches from that step on
BatchesFrom = Callable[[int], Iterator[ExampleBatch]]


class StageOneTrainer:
    """Runs to the last step; a killed run can continue from its newest checkpoint."""

    def __init__(
        self,
        denoiser: Denoiser,
        frozen: Frozen,
        schedule: NoiseSchedule,
        settings: StageOneSettings,
        accelerator: Accelerator,
    ) -> None:
        self._frozen, self._settings, self._accelerator = frozen, settings, accelerator
        share = settings.micro_batch * accelerator.num_processes
        self._accumulation = settings.batch // share
        self._parameters = [p for p in denoiser.parameters() if p.requires_grad]
        optimiser = torch.optim.AdamW(
            self._parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self._denoiser, self._optimiser = accelerator.prepare(denoiser, optimiser)
        self._weights = min_snr_weights(schedule, settings.min_snr)
        averages: Any = EMAModel
        self.ema = averages(self._parameters, decay=settings.ema_decay, foreach=True)

    def run(
        self,
        batches_from: BatchesFrom,
        workspace: Path,
        quarantine: Quarantine,
        on_report: Callable[[TrainingReport], None],
    ) -> None:
        """Train from the newest checkpoint in `workspace` to the last step, and save that."""
        checkpoints = Checkpoints(workspace, self._accelerator, self.ema)
        first, last = checkpoints.load(), self._settings.steps
        if first >= last:
            return
        batches = batches_from(first)
        meter = _Meter(self._accelerator, self._settings, workspace)
        meter.forget_after(first)
        for step in range(first, last):
            meter.add(self._step(step, batches, quarantine))
            done = step + 1
            due = done % self._settings.checkpoint_every == 0 or done == last
            if due or done % self._settings.log_every == 0:
                meter.report(done, on_report)  # also refuses to save a diverged run
            if due:
                checkpoints.save(done)

    def use_averages(self) -> None:
        """Put the averaged weights into the networks."""
        self.ema.copy_to(self._parameters)

    def _step(self, step: int, batches: Iterator[ExampleBatch], quarantine: Quarantine) -> Tensor:
        """One optimiser's step; returns this process's mean loss, a scalar on its device."""
        settings, accelerator = self._settings, self._accelerator
        for group in self._optimiser.param_groups:
            group["lr"] = rate_at(step, settings)
        losses = []
        for left in reversed(range(self._accumulation)):
            batch = next(batches)
            quarantine.add(batch.faults)
            # devices exchange gradients once a step, with the last micro-batch
            with accelerator.no_sync(self._denoiser) if left else nullcontext():
                loss = self._loss(batch)
                accelerator.backward(loss / self._accumulation)
            losses.append(loss.detach())
        accelerator.clip_grad_norm_(self._parameters, settings.gradient_norm)
        self._optimiser.step()
        self._optimiser.zero_grad()
        self.ema.step(self._parameters)
        return torch.stack(losses).mean()

    def _loss(self, batch: ExampleBatch) -> Tensor:
        """Mean weighted loss of a micro-batch."""
        if batch.content is None:
            raise ModelError(
                "A picture and its neighbours cannot be read.",
                "Is the disk still there? quarantine-*.csv next to the checkpoints says why.",
            )
        on = self._accelerator.device
        timesteps = batch.timesteps.to(on)
        text = batch.tokens.to(on)
        with torch.no_grad(), self._accelerator.autocast():
            content = batch.content.to(on)
            moments = content if self._frozen.cached else self._frozen.space.moments(content)
            if self._frozen.text_encoder is not None:
                text = self._frozen.text_encoder(text)[0].float()
        latents = self._frozen.space.latents(moments, batch.spread.to(on))
        losses: Tensor = self._denoiser(latents, timesteps, batch.noise.to(on), text)
        return (losses * self._weights[timesteps]).mean()


def rate_at(step: int, settings: StageOneSettings) -> float:
    """Learning rate of `step`, counted from 0: linear rise, then constant or half a cosine."""
    warm = min(1.0, (step + 1) / max(1, settings.warm_up))
    if settings.rate_schedule == "constant":
        return settings.learning_rate * warm
    return settings.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / settings.steps))


class _Meter:
    """Losses and speed between two reports; `training.jsonl` keeps them."""

    def __init__(
        self, accelerator: Accelerator, settings: StageOneSettings, workspace: Path
    ) -> None:
        self._accelerator, self._settings = accelerator, settings
        self._file = workspace / "training.jsonl"
        self._losses: list[Tensor] = []
        self._since = time.perf_counter()

    def forget_after(self, step: int) -> None:
        """Drop the lines of steps that a killed run made after its newest checkpoint."""
        if self._accelerator.is_main_process and self._file.exists():
            lines = self._file.read_text("utf-8").splitlines(keepends=True)
            self._file.write_text("".join(lines[: _lines_until(lines, step)]), "utf-8")

    def add(self, loss: Tensor) -> None:
        """Record one step's loss without waiting for the device."""
        self._losses.append(loss)

    def report(self, step: int, on_report: Callable[[TrainingReport], None]) -> None:
        """Mean over steps and processes, to the file and to `on_report` of the main process."""
        mean = self._accelerator.reduce(torch.stack(self._losses).mean(), "mean")
        loss = float(mean)
        if not math.isfinite(loss):
            raise ModelError(
                f"The loss is {loss} before step {step}: the training diverged.",
                'Lower learning_rate, or set precision = "no"; it goes on from the newest '
                "checkpoint only with the same settings, so start in a new folder.",
            )
        now = time.perf_counter()
        speed = len(self._losses) * self._settings.batch / max(now - self._since, 1e-9)
        self._losses, self._since = [], now
        report = TrainingReport(
            step, self._settings.steps, loss, rate_at(step - 1, self._settings), speed
        )
        if self._accelerator.is_main_process:
            line = {"step": step, "loss": loss, "rate": report.rate, "images_per_second": speed}
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            on_report(report)


def _lines_until(lines: list[str], step: int) -> int:
    """How many lines, in ascending steps, are of `step` or before; the last may be truncated."""
    whole = (line for line in lines if line.endswith("}\n"))
    return sum(json.loads(line)["step"] <= step for line in whole)
