"""Two small studies, one of each mechanism, made once by the real machines."""

import tempfile
from functools import cache
from pathlib import Path

from bench.audit.made import MadeMechanism, MadeStudy, made_study
from craftsfl.audit.tampering import DishonestKeys
from privacy.audit.bundle import make_bundle


@cache
def made(mechanism: MadeMechanism) -> MadeStudy:
    with tempfile.TemporaryDirectory() as folder:
        return made_study(Path(folder), mechanism)


@cache
def bundle(mechanism: MadeMechanism, with_vectors: bool = True) -> bytes:
    return make_bundle(made(mechanism).parts, with_vectors=with_vectors)


def keys(mechanism: MadeMechanism) -> DishonestKeys:
    one = made(mechanism)
    return DishonestKeys(one.ledger_keys, one.identities, one.coordinator)
