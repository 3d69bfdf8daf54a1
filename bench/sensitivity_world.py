"""A site of the shipped base whose every step can be repeated, with and without a patient."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bench.engines import ENGINE_CLASSES
from bench.training import CROSS_ATTENTION
from client.training import EncodedTiles, LocalTrainer
from client.training.precision import Precision
from craftsfl.simulation.members import SimulatedMembers
from model.base import load_base
from model.cache import SHIPPED_BASE, locate_base
from model.layout import Layout
from model.text import encode_captions
from privacy.closing import Closing
from privacy.dpsgd.assignment import Assign, Assignment
from privacy.dpsgd.engine import ClippedSum, PatientGradients, PhysicalBatch
from privacy.dpsgd.isolation import Isolation
from privacy.dpsgd.lora_engine import LoraEngine
from privacy.dpsgd.opacus_engine import OpacusEngine
from privacy.dpsgd.release import CONTRIBUTION_BITS
from privacy.dpsgd.substreams import Substreams
from privacy.study.manifest import Study

PATIENTS: Final = 16
_MEMBERS: Final = SimulatedMembers.seeded(("north", "south", "east"), consortium="sensitivity")
PLACES: Final = 8  # two batches: when somebody leaves, others move from one to the other
_CLIPPING_NORM: Final = 1e-4
_CAPTIONS: Final = ["fat", "bone", "glands"]
_TERMS: Final = {
    "effects": {
        "weight": 0.1,
        "margin": 0.5,
        "encoder": {"source": "tiny", "digest": "sha256:" + "0" * 64},
        "phrases": _CAPTIONS,
    },
    "structure": {
        "weight": 0.1,
        "margin": 0.5,
        "block": "up_blocks.1",
        "encoder": {"source": "tiny", "digest": "sha256:" + "0" * 64},
    },
    "drift": {"weight": 0.1},
    "grounding": {"weight": 0.1, "temperature": 0.05, "captions": _CAPTIONS},
}
LOSS_TERMS: Mapping[str, dict[str, Any] | None] = MappingProxyType(
    {"denoising": None, "stage-two": _TERMS}
)


def unpadded(drawn: NDArray[np.int64], places: int, streams: Substreams) -> Assignment:
    """The control: one batch, of exactly those who were drawn."""
    return Assignment(drawn[None])


class World:
    """One step of a site's trainer: everybody is drawn, nothing is added to the sum."""

    patients = PATIENTS
    clipping_norm = _CLIPPING_NORM

    def __init__(
        self,
        engine: str,
        loss: str,
        device: str,
        *,
        assign: Assign,
        precision: Precision = "float32",
    ) -> None:
        folder = locate_base(SHIPPED_BASE)
        pipeline = load_base(folder, torch.device(device))
        self._tiles = _tiles(pipeline)
        self._pipeline, self._study = pipeline, _study(loss)
        self._engine, self._assign = ENGINE_CLASSES[engine], assign
        self._precision: Precision = precision
        self.layout: Layout = self._trainer(0, self._tiles, []).layout

    def clipped_sum(
        self, vector: NDArray[np.float32], seed: int, *, without: int | None = None
    ) -> torch.Tensor:
        """The sum of one step from `vector` with the secrets of `seed`: float64 [P]."""
        tiles = self._tiles if without is None else self._tiles.without([without])
        sums: list[torch.Tensor] = []
        trainer = self._trainer(seed, tiles, sums)
        trainer.train(vector, progress=lambda *_: None, should_stop=lambda: False)
        return sums[0]

    def integers(
        self, vector: NDArray[np.float32], seed: int, *, without: Iterable[int] = ()
    ) -> NDArray[np.int64]:
        """The sum of a step with everybody in it, in units of C 2^-30: int64 [P]."""
        trainer = self._trainer(seed, self._tiles.without(list(without)), [])
        return trainer.clipped_sum(vector, 0, progress=lambda *_: None, should_stop=lambda: False)

    def isolation(self, *, autocast: bool = False) -> Isolation:
        """What the trainer's test of the device finds; `autocast`: losses in bfloat16."""
        return self._trainer(0, self._tiles, [], autocast=autocast).isolation()

    def _trainer(
        self, seed: int, tiles: EncodedTiles, sums: list[torch.Tensor], *, autocast: bool = False
    ) -> LocalTrainer:
        kind = self._pipeline.device.type if autocast else None

        def watched(module: nn.Module, parameters: Sequence[nn.Parameter]) -> _Watched:
            return _Watched(self._engine(module, parameters), sums, kind)

        return LocalTrainer(
            self._study,
            "north",
            self._pipeline,
            tiles,
            noise=_Repeated(seed),
            physical_rows=PLACES,
            engine=watched,
            assign=self._assign,
            precision=self._precision,
        )


class _Watched(Closing):
    """The real engine; its sums are recorded.

    `autocast`: the kind of device on which the losses are computed in bfloat16. Only the losses:
    a backward pass would run in another thread, where autocast is not active.
    """

    def __init__(
        self, engine: LoraEngine | OpacusEngine, sums: list[torch.Tensor], autocast: str | None
    ) -> None:
        self._engine, self._sums, self._autocast = engine, sums, autocast

    @property
    def size(self) -> int:
        return self._engine.size

    def gradients(self, batch: PhysicalBatch) -> PatientGradients:
        return self._engine.gradients(replace(batch, losses=partial(self._losses, batch)))

    def _losses(self, batch: PhysicalBatch) -> torch.Tensor:
        if self._autocast is None:
            return batch.losses()
        with torch.autocast(self._autocast, torch.bfloat16):
            return batch.losses()

    def clipped_sum(self, batches: Iterable[PhysicalBatch], clipping_norm: float) -> ClippedSum:
        found = self._engine.clipped_sum(batches, clipping_norm)
        self._sums.append(found.total.cpu())
        return found

    def contributions(
        self, batches: Iterable[PhysicalBatch], clipping_norm: float
    ) -> Iterator[torch.Tensor]:
        total = torch.zeros(self.size, dtype=torch.int64)
        for parts in self._engine.contributions(batches, clipping_norm):
            total += parts.sum(dim=0, dtype=torch.int64).cpu()
            yield parts
        self._sums.append(total.double() * clipping_norm * 2.0**-CONTRIBUTION_BITS)

    def close(self) -> None:
        self._engine.close()


class _Repeated:
    """A source of the same secrets for every step. It protects nobody."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def uniform(self, n: int) -> NDArray[np.float64]:
        return np.random.default_rng(self._seed).random(n)


def _tiles(pipeline: Any) -> EncodedTiles:  # noqa: ANN401 - diffusers is untyped
    """One to three made-up tiles a patient, of the base's shapes."""
    random = np.random.default_rng(0)
    owners = np.repeat(np.arange(PATIENTS), random.integers(1, 4, PATIENTS))
    config, count = pipeline.unet.config, len(owners)
    size = (count, config.in_channels, config.sample_size, config.sample_size)
    side = 4
    pairs = side**2 * (side**2 - 1) // 2
    return EncodedTiles(
        latents=torch.from_numpy(random.standard_normal(size, dtype=np.float32)),
        text=encode_captions(pipeline, _CAPTIONS),
        caption_of=torch.from_numpy(random.integers(0, len(_CAPTIONS), count)),
        patient_of=torch.from_numpy(owners),
        reference=torch.from_numpy(random.standard_normal((count, pairs), dtype=np.float32)).half(),
        likeness=torch.from_numpy(random.random((len(_CAPTIONS), len(_CAPTIONS)), np.float32)),
    )


def _study(loss: str) -> Study:
    return Study.model_validate(
        {
            "name": "sensitivity",
            "rounds": 1,
            "base": {"digest": "sha256:" + "0" * 64, "source": SHIPPED_BASE},
            "adapter": {"targets": CROSS_ATTENTION, "rank": 1, "alpha": 1.0},
            "training": {
                "sampling_rate": 1.0,
                "steps": 1,
                "tiles_per_patient": 1,
                "draws_per_tile": 1,
                "clipping_norm": _CLIPPING_NORM,
                "noise_multiplier": 0.0,
                "optimizer": "sgd",
                "learning_rate": 1.0,
                "loss": loss,
            },
            "privacy": {"delta": 1e-5},
            "aggregation": {"strategy": "fedavg"},
            "cohort": {"min_sites": 3, "round_deadline": 60.0, "reply_slot": 1.0},
            **_MEMBERS.sites(PATIENTS),
            "samples": {"prompts": ["glands"], "seeds": [1]},
            "stage_two": LOSS_TERMS[loss],
        }
    )
