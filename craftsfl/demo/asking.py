"""How the hostile coordinator reaches a hospital."""

from __future__ import annotations

from collections.abc import Callable

from privacy.wire.bodies import Body
from privacy.wire.envelope import Envelope

AskSite = Callable[[int, Envelope], Body]
"""The answer of the site with this id of the roster to an envelope."""
