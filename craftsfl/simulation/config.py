"""What is simulated, and what came of it: frozen values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from privacy.errors import ConfigError
from privacy.study.manifest import Study

if TYPE_CHECKING:
    from model.encoders import ImageEncoder
    from model.losses import Loss
    from privacy.wire.codec import Vector
    from strategies.base import Strategy

Arm = Literal["pooled", "local", "central", "alone", "noise-off"]
SIMULATED_ARMS: Final[tuple[Arm, ...]] = ("pooled", "local", "central", "alone", "noise-off")

# (what is done, how much of it, of how much); also called from the threads in which sites train.
SimulationProgress: TypeAlias = Callable[[str, int, int], None]


def no_progress(what: str, done: int, total: int) -> None:
    """Shows nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationConfig:
    """A study, who takes part in it, and one arm.

    `study`: its file, or the study itself. `folder` keeps everything: a simulation that was killed
    goes on there, and further arms of the same one share its tissue. `sites`: how many; None: the
    study's own. `patients`: of each site, None: as many as the study declares for it. `arm`: None
    is what the study says of its noise. `seed` fixes the tissue, and draws and noise of arms that
    have no agents; agents take theirs from the system. `held_out`:
    how many other patients the gain is measured on. `data`: a folder of public tiles, one
    sub-folder for each site, in place of drawn tissue; a quarter of each site's patients is held
    out. `base`: in place of the study's, "tiny" or a folder.
    `alone`: which site trains in that arm, None: the first. `mlflow`: a tracking URI.

    `loss`, `encoder` and `strategy` take the place of the study's: a function of (UNet, rows,
    schedule) that returns a number for each row, the frozen encoder that a stage-two loss compares
    with, and what makes a server optimiser for P parameters. `label` names them in results.
    """

    study: Path | Study
    folder: Path
    sites: int | None = None
    patients: int | None = None
    arm: Arm | None = None
    seed: int = 0
    held_out: int = 60
    data: Path | None = None
    base: str | None = None
    alone: str | None = None
    device: str = "cpu"
    mlflow: str | None = None
    loss: Loss | None = field(default=None, repr=False)
    encoder: ImageEncoder | None = field(default=None, repr=False)
    strategy: Callable[[int], Strategy] | None = field(default=None, repr=False)
    label: str = ""

    def __post_init__(self) -> None:
        if self.arm is not None and self.arm not in SIMULATED_ARMS:
            raise ConfigError(
                f"There is no arm {self.arm!r}.", f"The arms are {', '.join(SIMULATED_ARMS)}."
            )
        for name in ("sites", "patients"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}.", "Give 1 or more, or leave it out.")
        if self.held_out < 2:
            raise ConfigError(
                f"held_out is {self.held_out}: an interval needs two patients.",
                "Give 2 or more, better 60.",
            )
        if self.data is not None and self.patients is not None:
            raise ConfigError(
                "patients cannot be chosen where the tiles are given.", "Leave one of them out."
            )

    @property
    def own(self) -> str:
        """What takes the place of the study's own, in words; "" if nothing does."""
        named = {"loss": self.loss, "encoder": self.encoder, "strategy": self.strategy}
        found = [f"{key} {_name(value)}" for key, value in named.items() if value is not None]
        return " ".join([self.label, *found]).strip()


@dataclass(frozen=True, slots=True)
class ArmRun:
    """An arm's steps, done: what it publishes, float32 [P], and what was charged for it."""

    adapter: Vector
    epsilon: float | None  # None: nothing is charged where there is no ledger
    seconds: float  # that all steps took, over all processes


@dataclass(frozen=True, slots=True)
class Gain:
    """Share of the base's held-out denoising loss that the adapter takes away.

    Student's t interval at 95 %, over held-out `patients`; larger is better, 0 is the base.
    """

    mean: float
    low: float
    high: float
    patients: int


@dataclass(frozen=True, slots=True)
class SimulationResult:
    """One arm, finished. `epsilon` is what each site's ledger holds; None: no ledger, no promise.

    `steps` are rounds of a study of updates. `seconds` is the time that all steps took, whatever
    interrupted them.
    """

    arm: Arm
    study: str
    digest: str  # of the study as it was simulated, hex
    own: str  # what took the place of the study's loss, encoder or strategy
    sites: int
    patients: int  # of all sites that trained
    steps: int
    parameters: int  # P
    epsilon: float | None
    delta: float
    base_loss: float
    gain: Gain
    adapter: Path
    seconds: float

    def __str__(self) -> str:
        """In a line: "noise-off, loss mine: gain +1.20% (+0.80%, +1.60%)"."""
        gain, name = self.gain, f"{self.arm}, {self.own}" if self.own else self.arm
        return f"{name}: gain {gain.mean:+.2%} ({gain.low:+.2%}, {gain.high:+.2%})"

    def row(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {
            **{name: getattr(self, name) for name in self.__slots__ if name != "gain"},
            "adapter": str(self.adapter),
            "gain": self.gain.mean,
            "low": self.gain.low,
            "high": self.gain.high,
            "held_out": self.gain.patients,
        }


def result_of(row: dict[str, Any]) -> SimulationResult:
    """What `SimulationResult.row` made plain."""
    values = dict(row)
    gain = Gain(*(values.pop(name) for name in ("gain", "low", "high", "held_out")))
    return SimulationResult(**{**values, "adapter": Path(values["adapter"]), "gain": gain})


def _name(value: object) -> str:
    """A name that is the same in the next process, if the value has one."""
    found = getattr(value, "__qualname__", None) or getattr(value, "name", None)
    return str(found or type(value).__qualname__)
