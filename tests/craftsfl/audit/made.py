"""Two small studies, one of each mechanism, made once by the real machines, and read once."""

import tempfile
from functools import cache
from pathlib import Path

from bench.audit.made import MadeMechanism, MadeStudy, StudySize, made_study
from craftsfl.audit.tampering import DishonestKeys
from privacy.audit.bundle import make_bundle
from privacy.audit.checks.log import check_log
from privacy.audit.evidence import Evidence, read_evidence
from privacy.log.replay import LogReplay


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


@cache
def evidence_of(bundle: bytes) -> Evidence:
    """Of a bundle in which nothing is wrong."""
    found, failures = read_evidence(bundle)
    assert found is not None
    assert failures == []
    return found


@cache
def log_of(bundle: bytes) -> LogReplay:
    """The log in a bundle in which nothing is wrong."""
    found = check_log(evidence_of(bundle))
    assert found.replay is not None
    assert found.failures == []
    return found.replay


def keys(mechanism: MadeMechanism) -> DishonestKeys:
    return keys_of(made(mechanism))


def keys_of(one: MadeStudy) -> DishonestKeys:
    return DishonestKeys(one.ledger_keys, one.identities, one.coordinator)
