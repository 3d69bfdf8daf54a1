"""Trouble among honest people is no alarm: whole runs, as an auditor reads them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench.audit.made import to_toml
from craftsfl.audit.verdict import AuditVerdict, verify_bundle
from craftsfl.rounds.export import bundle_parts
from privacy.audit.bundle import make_bundle
from privacy.audit.handed import HandedOver
from privacy.budget import Limits
from privacy.ledger import record_bytes
from privacy.secagg.chain import write_rosters
from server.rounds import run_federation
from server.settings import ConsortiumSettings
from tests.client.sealed import LAYOUT
from tests.pooled_study import COORDINATOR
from tests.server.sealed import REQUIRED, SealedWorld, after, forging


def audited(world: SealedWorld) -> AuditVerdict:
    """The verdict on everything that coordinator and sites have."""
    study, folder = world.study, world.folder
    (folder / "study.toml").write_text(to_toml(world.values))
    write_rosters(folder / "rosters.cfl", [world.members.signed])
    limits = Limits(1e4, study.privacy.delta, 1e4)
    handed = {}
    for site, ledger in world.sites.ledgers.items():
        name, head = world.sites.name(site), ledger.head()
        records = record_bytes(folder / f"{name}.sqlite", head)
        whole = (head, records, ledger.entries())
        identity = world.members.identities[name]
        handed[name] = HandedOver.of(name, study, identity, limits, whole, 0.0)
    settings = ConsortiumSettings(
        study=folder / "study.toml", state=folder, roster=folder / "rosters.cfl"
    )
    parts = bundle_parts(settings, study, LAYOUT, handed, COORDINATOR)
    return verify_bundle(make_bundle(parts))


def test_a_step_that_a_restart_cost_is_no_alarm(pooled: Callable[..., SealedWorld]) -> None:
    world = pooled(log=True, policy=REQUIRED)
    lost: list[int] = []

    def restart() -> None:
        if not lost:
            lost.append(1)
            world.sites.start(2)

    run_federation(world.federation(after(world, 1, restart)))
    verdict = audited(world)
    assert verdict.failures == []
    assert verdict.evidence is not None
    record = next(iter(verdict.evidence.runs.values())).record
    assert record.refusals
    assert {one.state for one in record.attempts} == {"finished", "failed"}


def test_a_sum_that_was_taken_back_is_told_and_no_alarm(
    pooled: Callable[..., SealedWorld], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = pooled(log=True, policy=REQUIRED)
    forging(monkeypatch, 1)
    run_federation(world.federation())
    verdict = audited(world)
    assert verdict.failures == []
    assert any("took another attempt's" in line for line in verdict.not_recomputed)
