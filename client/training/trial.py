"""The trial of a device, before any patient's row is used; or what an earlier one has proven."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from client.training.kept_proof import KeptProof, Proven, subject_of
from client.training.proof import SHARPENINGS, large_vector
from model.adapters import Unet, write_vector
from model.layout import Layout
from privacy.dpsgd.engine import ClippingEngine
from privacy.dpsgd.isolation import Deal, Isolation, card_bits, finite_share, isolation_of
from privacy.errors import ModelError

OTHER_DEVICE: Final = (
    'Set agent.device = "cpu" in site.toml, or try another version of torch or of the driver.'
)
OTHER_PRECISION: Final = 'Set agent.precision = "float32" in site.toml.'
_TELLING: Final = 0.5  # share of finite gradients above which a trial is meaningful


@dataclass(frozen=True)
class DeviceTrial:
    """Made-up rows, dealt to `places` places, at adapters that amplify rounding.

    Leaves the last of these adapters on `unet`. `cure`: what helps where the trial fails.
    """

    engine: ClippingEngine
    unet: Unet
    layout: Layout
    deal: Deal
    places: int
    cure: str = OTHER_DEVICE

    def run(self, kept: KeptProof | None, what: object) -> Isolation:
        """What is found, or what `kept` knows of `what` and one batch confirms.

        Raises `ModelError` where nothing can be said.
        """
        subject = None if kept is None else subject_of(self.unet.device, what)
        try:
            if kept is None or subject is None:
                return self._found()[0]
            proven = kept.read(subject)
            if proven is not None and self._bits(proven.sharpened) == proven.bits:
                return proven.isolation
            found, sharpened = self._found()
            if found.in_place:
                kept.write(subject, Proven(sharpened, self._bits(sharpened), found.permuted))
            return found
        except RuntimeError as error:  # torch's, for instance for an operation that may vary
            raise ModelError(
                f"On the device {self.unet.device}, a gradient cannot be taken in one fixed "
                f"order: {error}",
                self.cure,
            ) from None

    def _found(self) -> tuple[Isolation, float]:
        for sharpened in SHARPENINGS:
            self._sharpen(sharpened)
            if finite_share(self.engine, self.deal, self.places) >= _TELLING:
                return isolation_of(self.engine, self.deal, self.places), sharpened
        raise ModelError(
            f"On the device {self.unet.device}, hardly any gradient of made-up rows is finite"
            ": nothing can be said about what patients' rows would do there.",
            self.cure,
        )

    def _bits(self, sharpened: float) -> str:
        self._sharpen(sharpened)
        return card_bits(self.engine, self.deal, self.places)

    def _sharpen(self, factor: float) -> None:
        write_vector(self.unet, self.layout, large_vector(self.layout, sharpened=factor))
