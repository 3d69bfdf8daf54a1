"""One patient's own figure: of what was charged, that in which the patient could be drawn.

For the site's eyes only, and never for enforcement: the site is charged for everyone, because who
was there when is nobody else's business, and nothing may depend on it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from client.patients.register import Stay
from privacy.ledger import Charge, Entry, charged


def charges_during(stays: Sequence[Stay], entries: Iterable[Entry]) -> list[Charge]:
    """The charges of attempts that overlap any of `stays`, from intent to charge.

    Direction of the error: upwards, for an attempt counts even if it was over a moment after the
    stay began. Times are the site's clock's.
    """
    return charged(entry for entry in entries if any(_overlap(stay, entry) for stay in stays))


def _overlap(stay: Stay, entry: Entry) -> bool:
    until = math.inf if stay.until is None else stay.until
    charged = math.inf if entry.charge_time is None else entry.charge_time
    return entry.intent_time <= until and stay.since <= charged
