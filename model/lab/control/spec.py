"""What a ControlNet is conditioned on: the meaning of its input channels, in its own file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from privacy.errors import ModelError

FILE = "control.json"
UNTYPED = ("nucleus",)  # the types of a control that knows nuclei of one kind only
_FORMAT = 1
_SHAPES = ("boundary", "distance")
_HINT = "Use a folder that `craftsfl model pretrain-control` wrote."


@dataclass(frozen=True, slots=True)
class ControlSpec:
    """Channels of the condition, in order: one-hot types, boundary, distance, then markers.

    types: names of nucleus types, () if masks are not accepted; markers: names of fluorescence
    markers, () if none are accepted. size: side in pixels. base: digest of the base it was
    trained on.
    """

    types: tuple[str, ...]
    markers: tuple[str, ...]
    size: int
    base: str

    def __post_init__(self) -> None:
        """Raise `ModelError` if there is nothing to condition on."""
        if not self.types and not self.markers:
            raise ModelError("A control needs nucleus types or markers.", "Name at least one.")
        if self.size < 8:
            raise ModelError(f"A control cannot be {self.size} px wide.", "Take the base's size.")

    @property
    def names(self) -> tuple[str, ...]:
        """A name for each channel."""
        return self.types + (_SHAPES if self.types else ()) + self.markers

    @property
    def channels(self) -> int:
        """C, the number of channels of a condition."""
        return len(self.names)

    @property
    def first_marker(self) -> int:
        """Index of the first marker's channel."""
        return self.channels - len(self.markers)

    def write(self, folder: Path) -> None:
        """Write control.json into `folder`."""
        text = json.dumps({"format": _FORMAT} | asdict(self), indent=1)
        (folder / FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> ControlSpec:
        """Read control.json of `folder`. Raises `ModelError` for anything else."""
        try:
            fields = json.loads((folder / FILE).read_text("utf-8"))
            if fields.pop("format") != _FORMAT:
                raise ModelError(f"{folder / FILE} has another format.", _HINT)
            types, markers = (tuple(map(str, fields.pop(key))) for key in ("types", "markers"))
            return cls(types, markers, size=int(fields.pop("size")), base=str(fields.pop("base")))
        except OSError:
            raise ModelError(f"{folder} holds no control ({FILE}).", _HINT) from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ModelError(f"{folder / FILE} is damaged.", _HINT) from None
