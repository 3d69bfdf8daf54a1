"""The options of `craftsfl model evaluate`, and which of them contradict each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from craftsfl.model.evaluation.subjects import Model
from craftsfl.model.evaluation.tracking import Destination, check_destination
from privacy.errors import ConfigError


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """The options; the command's help explains each."""

    real: Path
    generated: Path | None = None
    training: Path | None = None
    model: Model = field(default_factory=Model)
    encoders: tuple[str, ...] = ("tiny", "tiny-evaluator")
    judge: str | None = "tiny-evaluator"
    study: Path | None = None
    metrics: tuple[str, ...] | None = None
    most: int = 5000
    images: int | None = None
    phrases: Path | None = None
    drift_prompts: Path | None = None
    seed: int = 0
    resamples: int = 200
    ids_confirmed: bool = False
    public: bool = False
    html: Path | None = None
    with_patients: bool = False
    destination: Destination | None = None
    as_json: bool = False

    def check(self) -> None:
        """Raise `ConfigError` for options that contradict each other; loads nothing."""
        if self.generated is not None and (self.model.base or self.model.adapter):
            raise ConfigError(
                "--generated names existing images; --base and --adapter draw new ones.",
                "Name one of the two.",
            )
        if self.generated is None and "mask" in (self.metrics or ()):
            raise ConfigError(
                "Mask fidelity needs pictures that were drawn under masks.",
                "Draw a folder of them with `craftsfl model sample --mask`, and name it with "
                "--generated.",
            )
        if "drift" in (self.metrics or ()) and self.model.adapter is None:
            raise ConfigError(
                "Drift compares an adapter with its base, not finished pictures.",
                "Name it: --adapter.",
            )
        if self.with_patients and self.html is None:
            raise ConfigError("--with-patients is about the page.", "Name one with --html.")
        if self.html is not None and not self.html.absolute().parent.is_dir():
            raise ConfigError(f"The folder of {self.html} does not exist.", "Make it first.")
        if self.html is not None and self.html.is_dir():
            raise ConfigError(f"{self.html} is a folder.", "Name the page in it: --html PAGE.html.")
        if self.destination is not None:
            check_destination(self.destination, public=self.public)
