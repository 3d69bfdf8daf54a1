"""The study manifest: everything public that is fixed before a study's first round.

Server and sites read the same `study.toml` and compare its digest, so that a coordinator cannot
change a schedule, a weight or a model during the study. Nothing in it is secret.
"""

# Why: docs/adr/0002-frozen-study.md

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from privacy.config import Count, Fraction, Positive, SiteName, Strict, load_toml, refuse_plain
from privacy.secagg.offer import SMALLEST_COHORT
from privacy.secagg.width import MAX_BITS, MIN_BITS
from privacy.study.auditors import Auditors
from privacy.study.losses import LossName
from privacy.study.masks import check_masks, check_noise_colluders
from privacy.study.pooled import Chosen, PooledSettings, check_mechanism
from privacy.study.promotion import Promotion, check_promotion
from privacy.study.stage_two import Digest, StageTwo

STUDY_NAME = r"^[a-z0-9][a-z0-9-]{0,63}$"
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]


class Base(Strict):
    """The frozen base pipeline, found by digest in the model cache."""

    digest: Digest
    source: str = Field(min_length=1)  # where to get it: "tiny", a local folder, or a hub id


class Adapter(Strict):
    """LoRA: `targets` are suffixes of module names of the UNet, e.g. "attn2.to_q".

    `frozen_a`: only the factors B are trained, over public Gaussian factors A. Then there are about
    half as many noisy numbers, and no products of two of them (FFA-LoRA, arXiv 2403.12313).
    """

    targets: tuple[str, ...] = Field(min_length=1)
    rank: Count
    alpha: Positive
    frozen_a: bool = False


class Training(Strict):
    """One round at a site: `steps` Poisson-subsampled Gaussian steps of local DP-SGD.

    Where the noise is pooled, a round is one sum over all patients, and there is no optimiser here.
    """

    sampling_rate: Fraction  # q: each patient's chance of entering a step
    steps: Count  # local steps a round
    tiles_per_patient: Count  # k: tiles of a drawn patient; with fewer, some are repeated
    draws_per_tile: Count  # m: (t, noise) draws averaged before the clip
    clipping_norm: Positive  # C: L2 bound of one patient's gradient
    noise_multiplier: Annotated[float, Field(ge=0)]  # sigma: noise std is sigma * C
    optimizer: Literal["sgd", "adam"] | None = None
    learning_rate: Positive | None = None
    loss: LossName = "denoising"


class Privacy(Strict):
    """What the accountant needs in addition to the training schedule.

    `mechanism`: "local", every site adds all the noise of its own patients; "pooled", sites add
    shares of one noise under masks.
    """

    mechanism: Literal["local", "pooled"] = "local"
    delta: Annotated[float, Field(gt=0, lt=1e-3)]
    attempts: Count = 1  # most attempts a round; every attempt is an event of its own
    # How many colluding sites the noise has to withstand, where sites add shares of it. Where each
    # site adds all of its own ("local"), it withstands any number, and this changes nothing.
    noise_colluders: Annotated[int, Field(ge=0)] = 0


class Aggregation(Strict):
    """How the sites' updates become the next adapter. FedAdam: Reddi et al. 2021, Algorithm 2.

    Where the noise is pooled: "momentum" (`beta1`) or "adam" (`beta1`, `beta2`, `floor`), of the
    opened mean gradient, worked out by every site for itself.
    """

    strategy: Literal["fedavg", "fedadam", "momentum", "adam"]
    learning_rate: Positive = 1.0
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.99
    tau: Positive = 1e-3
    # Of Adam's second moment, once the noise's share is taken off: at least this share of the
    # noise's variance stays. None: 0.1.
    floor: Positive | None = None
    # The adapter that is published is a mean of those after all steps so far, in which the one
    # after step t weighs about t^averaging. None: the last one alone.
    averaging: Annotated[float, Field(ge=0, le=1e6)] | None = None
    secure_aggregation: Literal["required"] = "required"  # the coordinator sees sums only

    @field_validator("secure_aggregation", mode="before")
    @classmethod
    def _is_not_plain(cls, mode: object) -> object:
        return refuse_plain(
            mode,
            'write "required", and the table [secure_aggregation] with the roster; a run of this '
            "study can only be ended: craftsfl rounds stop",
        )


class SecureAggregation(Strict):
    """What all sites agree on besides the schedule, so that only the sum of updates is ever seen.

    `bound` is B: the largest magnitude of a coordinate of a weighted, rotated update; larger ones
    are clipped (`privacy.secagg.width`). `colluders` is how many sites may collude with the
    coordinator. `exchange_deadline` is in seconds, for each exchange before and after the masked
    updates; a site that misses one has dropped out.
    """

    roster: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]  # digest: craftsfl rounds roster show
    bound: Positive | None = None  # None: where the noise is pooled, nothing is clipped after it
    bits: Annotated[int, Field(ge=MIN_BITS, le=MAX_BITS)] = 16  # of a packed coordinate
    tolerated_error: Positive = 0.01  # of the mean, relative to the length of one update
    colluders: Annotated[int, Field(ge=0)] = 0
    exchange_deadline: Positive = 60.0


class Cohort(Strict):
    """A round needs `min_sites` updates; a site that misses the deadline is dropped from it.

    A site's update may leave exactly `reply_slot` after the attempt began there, neither earlier
    nor later, because how long training took depends on who was drawn. A site that is not done by
    then has dropped out but is charged nevertheless, so choose a slot longer than any training.
    """

    min_sites: Count
    round_deadline: Positive  # seconds from the start message to the last accepted update
    reply_slot: Positive = 60.0  # seconds


class Site(Strict):
    """A member of the study with its declared, rounded cohort size N (a public constant)."""

    name: SiteName
    declared_patients: Annotated[int, Field(ge=1, le=10_000_000)]


class Samples(Strict):
    """Public prompts and seeds of the sample grids; the only prompts that are ever tracked."""

    prompts: tuple[str, ...] = Field(min_length=1)
    seeds: tuple[Seed, ...] = Field(min_length=1)
    steps: Count = 20
    guidance: Positive = 3.0


class Study(Strict):
    """The whole manifest, `study.toml`."""

    name: Annotated[str, Field(pattern=STUDY_NAME)]
    rounds: Count
    base: Base
    adapter: Adapter
    training: Training
    privacy: Privacy
    aggregation: Aggregation
    cohort: Cohort
    sites: tuple[Site, ...] = Field(min_length=1)
    samples: Samples
    secure_aggregation: SecureAggregation
    stage_two: StageTwo | None = None
    pooled: PooledSettings | None = None
    chosen: Chosen | None = None
    auditors: Auditors | None = None
    promotion: Promotion | None = None

    @property
    def pools_noise(self) -> bool:
        """Whether sites add shares of one noise, and every round is one sealed step."""
        return self.privacy.mechanism == "pooled"

    @property
    def attempts_a_round(self) -> int:
        """The most attempts at one round."""
        return self.privacy.attempts if self.pooled is None else 1 + self.pooled.spare_attempts

    @property
    def most_attempts(self) -> int:
        """The most attempts that the whole study may charge, over all its runs."""
        if self.pooled is None:
            return self.rounds * self.privacy.attempts
        return self.rounds + self.pooled.spare_attempts

    @property
    def smallest_cohort(self) -> int:
        """How many sites it takes to begin an attempt, and to finish it (n_min)."""
        return max(self.cohort.min_sites, SMALLEST_COHORT)

    @model_validator(mode="after")
    def _is_consistent(self) -> Study:
        names = [site.name for site in self.sites]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two sites are called {twice[0]}; every site needs its own name")
        if self.cohort.min_sites > len(self.sites):
            raise ValueError(
                f"cohort.min_sites is {self.cohort.min_sites} but only {len(self.sites)} sites "
                "are listed"
            )
        if self.cohort.reply_slot > self.cohort.round_deadline:
            raise ValueError("cohort.reply_slot is longer than cohort.round_deadline")
        check_masks(self.secure_aggregation, self)
        check_noise_colluders(self)
        check_mechanism(self)
        check_promotion(self)
        if (self.training.loss == "stage-two") != (self.stage_two is not None):
            raise ValueError(
                'the table [stage_two] is needed exactly where training.loss is "stage-two"'
            )
        if self.stage_two == StageTwo():
            raise ValueError(
                "[stage_two] has no term: give [stage_two.effects], [stage_two.structure], "
                "[stage_two.drift] or [stage_two.grounding]"
            )
        return self

    def site(self, name: str) -> Site | None:
        """The member called `name`, or None."""
        return next((site for site in self.sites if site.name == name), None)

    def digest(self) -> bytes:
        """SHA-256 (32 bytes) of the manifest's canonical JSON: layout and comments do not count."""
        return hashlib.sha256(b"craftsfl/study/v1\0" + self.canonical()).digest()

    def canonical(self) -> bytes:
        """The manifest's canonical JSON, which every copy of it has."""
        values = self.model_dump(mode="json")
        # Studies that use none of these keep the digest they had before these existed.
        if self.stage_two is None:
            del values["stage_two"]
        if not self.adapter.frozen_a:
            del values["adapter"]["frozen_a"]
        if not self.privacy.noise_colluders:
            del values["privacy"]["noise_colluders"]
        if not self.pools_noise:
            del values["privacy"]["mechanism"], values["pooled"]
            del values["aggregation"]["floor"], values["aggregation"]["averaging"]
        for name in ("chosen", "promotion", "auditors"):
            if values[name] is None:
                del values[name]
        if self.promotion is not None and self.promotion.readers is None:
            del values["promotion"]["readers"]
        text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return text.encode("ascii")


def load_study(path: Path) -> Study:
    """Read `study.toml`; raises `ConfigError`."""
    return load_toml(path, Study)
