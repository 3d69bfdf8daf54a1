"""What the demo measures in public, and what it compares that with: figures that ship with it.

The reference arms are the same for every run: the same synthetic patients, captions, seeds, base
and constants. So `craftsfl demo --references` measures them once, and a run compares itself with
them only where everything that decides what is learned is as it was then.
"""

# Why: docs/adr/0064-references-that-are-measured-once.md

from __future__ import annotations

import hashlib
import json
import math
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from craftsfl.demo.studies import StudyDraft, study_text
from craftsfl.demo.tiles import COMPLETE, HELD_OUT_PATIENTS, RARE_CANCERS, SYNTHETIC_HOSPITALS
from model.cache import shipped_base
from privacy.errors import ConfigError
from privacy.files import write_public
from privacy.study.manifest import Study, load_study

MEASURED_TILES: Final = 60  # each of another held-out patient
MEASURED_IMAGES: Final = MEASURED_TILES  # drawn for each figure of obedience: one a patient
JUDGE: Final = "tiny-evaluator"  # the demo's study trains with no encoder, so with none of these
SHIPPED: Final = Path(__file__).with_name("references.json")
_FORM: Final = 1
_NOBODY: Final = "0" * 64  # signs nothing: the arms have no roster and no coordinator
_HINT: Final = "Make it again: craftsfl demo --references FILE."


@dataclass(frozen=True, slots=True)
class PublicFigure:
    """A figure of the base on public tiles, and its change, with its 95 % interval over patients.

    `low` and `high` are infinite for a single patient.
    """

    base: float
    change: float
    low: float
    high: float
    patients: int

    @property
    def after(self) -> float:
        """The figure after training."""
        return self.base + self.change

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval does."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True)
class MeasuredArm:
    """Another way of training the same study, measured on the same public tiles.

    `rate`: the learning rate, the best of `tried` (rate and what it made of the loss), on these
    very patients: so a reference looks rather too good than too bad. `patients` trained.
    """

    rate: float
    tried: Mapping[str, float]
    patients: int
    loss: PublicFigure
    obedience: PublicFigure


@dataclass(frozen=True, slots=True)
class DemoReferences:
    """The figures file: `arms` by name, and under which `setting` they were measured, when, how."""

    command: str
    date: str
    seed: int
    setting: Mapping[str, Any] = field(repr=False)
    arms: Mapping[str, MeasuredArm]

    def write(self, file: Path) -> None:
        """Write it as JSON."""
        text = json.dumps({"form": _FORM, **asdict(self)}, indent=2, allow_nan=False)
        try:
            write_public(file, f"{text}\n".encode())
        except OSError as error:
            raise ConfigError(
                f"{file} cannot be written: {error.strerror}.", "Name another file."
            ) from None


def read_references(file: Path = SHIPPED) -> DemoReferences:
    """The figures in `file`. Raises `ConfigError` for what `DemoReferences.write` never wrote."""
    try:
        values = json.loads(file.read_text("utf-8"))
        if values.pop("form") != _FORM:
            raise ConfigError(f"{file} is of another version of craftsfl.", _HINT)
        arms = {name: _arm(own) for name, own in values.pop("arms").items()}
        return DemoReferences(**values, arms=arms)
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}.", _HINT) from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ConfigError(f"{file} holds no figures of reference arms.", _HINT) from None


def referred_study(base_digest: str) -> Study:
    """The demo's study with synthetic hospitals, but for its keys and its slot."""
    draft = StudyDraft(
        name="demo",
        rounds=None,
        base_digest=base_digest,
        roster=_NOBODY,
        reply_slot=60.0,
        declared={name: one.patients for name, one in SYNTHETIC_HOSPITALS.items()},
        prompts=RARE_CANCERS,
        coordinator_key=_NOBODY,
    )
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "study.toml"
        file.write_text(study_text("pooled", draft), "utf-8")
        return load_study(file)


def setting_of(study: Study) -> dict[str, Any]:
    """Everything that decides what the demo's study learns and how that is measured.

    Not who signs, what a slot lasts or how the run is called: none of it changes a number.
    """
    values = study.model_dump(mode="json")
    kept = ("rounds", "adapter", "training", "stage_two", "aggregation", "samples")
    setting: dict[str, Any] = {
        "base": study.base.digest,
        **{name: values[name] for name in kept},
        "mechanism": study.privacy.mechanism,
        "noise colluders": study.privacy.noise_colluders,
        "patients": {site.name: site.declared_patients for site in study.sites},
        "tiles": {"version": COMPLETE, "held out": HELD_OUT_PATIENTS, "measured": MEASURED_TILES},
        "judge": {"encoder": _judge_digest(), "images": MEASURED_IMAGES},
    }
    plain: dict[str, Any] = json.loads(json.dumps(setting))
    return plain


def differences(found: DemoReferences, study: Study) -> list[str]:
    """In what the references were measured otherwise than `study` is run; names, in order."""
    own = setting_of(study)
    names = own.keys() | found.setting.keys()
    return sorted(name for name in names if own.get(name) != found.setting.get(name))


def recovered_share(private: PublicFigure, noise_off: PublicFigure | None) -> float | None:
    """The share of the noise-off gain that remains with noise; None where there is no such gain."""
    if noise_off is None or noise_off.high >= 0 or not math.isfinite(private.change):
        return None
    return (private.change / private.base) / (noise_off.change / noise_off.base)


def _judge_digest() -> str:
    """SHA-256 of the judge's weights, in hex. By hand: `model.encoders` would import torch."""
    base = shipped_base()
    weights = None if base is None else base.with_name(JUDGE) / "model.safetensors"
    if weights is None or not weights.is_file():
        raise ConfigError(
            f"The encoder {JUDGE} does not come with this installation.", "Install craftsfl again."
        )
    return hashlib.sha256(weights.read_bytes()).hexdigest()


def _arm(values: Mapping[str, Any]) -> MeasuredArm:
    own = dict(values)
    loss, obedience = (PublicFigure(**own.pop(name)) for name in ("loss", "obedience"))
    return MeasuredArm(**own, loss=loss, obedience=obedience)
