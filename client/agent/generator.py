"""The trial of the noise's generator at every start, and its record in the ledger."""

# Why: docs/adr/0061-the-empirical-audit.md

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager

from client.agent.own_ledger import open_ledger
from client.agent.startup import LoadedSite
from client.agent.state import StateFolder
from privacy.discrete_gaussian.trial import GeneratorTrial, tried_generator
from privacy.ledger import SqliteLedger
from privacy.ledger.records import GeneratorTried
from privacy.study.pooling import deviation_tried


@contextmanager
def tried_ledger(state: StateFolder, site: LoadedSite) -> Iterator[SqliteLedger]:
    """The site's ledger, in which what a trial of the generator has found is recorded first.

    Raises `AccountingError` where the generator fails, after that is recorded, and `LedgerError`
    as `open_ledger`.
    """
    found = tried_generator(deviation_tried(site.rules.study), os.urandom)
    record = record_of(found)
    with open_ledger(state, site.rules.name, site.own, site.charge, record) as ledger:
        found.check()
        yield ledger


def record_of(found: GeneratorTrial) -> GeneratorTried:
    """What the ledger holds of a trial."""
    return GeneratorTried(
        passed=found.passed,
        known=found.known,
        deviation=found.deviation,
        draws=found.draws,
        variance=_real(found.variance),
        shared=_real(found.shared),
        fit=_real(found.fit),
    )


def _real(figure: float) -> float:
    return math.inf if math.isnan(figure) else figure
