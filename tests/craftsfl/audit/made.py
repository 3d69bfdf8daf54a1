"""Two small studies, one of each mechanism, made once by the real machines."""

import tempfile
from functools import cache
from pathlib import Path

from bench.audit.made import MadeMechanism, MadeStudy, StudySize, made_study
from craftsfl.audit.tampering import DishonestKeys
from privacy.audit.bundle import make_bundle


@cache
def made(mechanism: MadeMechanism) -> MadeStudy:
    with tempfile.TemporaryDirectory() as folder:
        return made_study(Path(folder), mechanism)


@cache
def promoted() -> MadeStudy:
    """With an auditor, whose signature it was promoted on, and gone back to."""
    with tempfile.TemporaryDirectory() as folder:
        return made_study(Path(folder), "pooled", StudySize(promoted=True), "promoted")


@cache
def bundle(mechanism: MadeMechanism, with_vectors: bool = True) -> bytes:
    return make_bundle(made(mechanism).parts, with_vectors=with_vectors)


@cache
def promoted_bundle() -> bytes:
    return make_bundle(promoted().parts)


def keys(mechanism: MadeMechanism) -> DishonestKeys:
    return keys_of(made(mechanism))


def keys_of(one: MadeStudy) -> DishonestKeys:
    return DishonestKeys(one.ledger_keys, one.identities, one.coordinator)
