"""What an adapter's numbers mean, as the last trainer of this study said it.

So an agent that was just started can say who it is before a trainer has loaded the model. The
newest trainer's word replaces it, and no attempt begins before that.
"""

# Why: docs/adr/0033-trainer-process.md

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from client.policy import SiteRules
from model.layout import Layout
from model.layout_text import decode_layout, encode_layout
from privacy.errors import WireError
from privacy.files import read_private, write_private

_LARGEST: Final = 16 << 20  # bytes
_log = logging.getLogger("craftsfl.agent")


@dataclass(frozen=True, slots=True)
class KnownLayout:
    """The layout of the study of `rules` in `file`: the study's digest, then the layout.

    The digest covers the base and the adapter's settings, on which a layout depends.
    """

    file: Path
    rules: SiteRules

    def read(self) -> Layout | None:
        """The layout; None where nothing is known of this study."""
        own = self.rules.study.digest()
        try:
            data = read_private(self.file, _LARGEST)
            found = decode_layout(data[len(own) :]) if data.startswith(own) else None
        except (OSError, WireError):
            return None  # as at a first start: the trainer will say
        if found is not None:
            self.rules.check_parameters(found.parameters)
        return found

    def write(self, layout: Layout) -> None:
        """Remember `layout`; where that fails, the next start takes longer."""
        try:
            write_private(self.file, self.rules.study.digest() + encode_layout(layout))
        except OSError as error:
            _log.warning("%s cannot be written: %s.", self.file, error.strerror)
