"""Bundles of small studies, made by the real machines: agents, ledgers, messages, coordinator.

Only the trainers are not real: patients pull at a point of their own, so that a whole study of
either mechanism takes a second.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache
from hashlib import shake_256
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from client.agent.generator import record_of
from client.agent.site_agent import AgentParts, SiteAgent
from client.policy import SiteRules, limits_of
from client.settings import ANY, Policy
from craftsfl.rounds.export import bundle_parts
from craftsfl.simulation.clock import SteppedClock
from craftsfl.simulation.consortium import SimulatedConsortium
from craftsfl.simulation.members import SimulatedMembers, seeded_identity
from craftsfl.simulation.pull import PullTrainer
from model.adapter_file import save_adapter
from model.layout import Layout, LayoutEntry, initial_vector
from privacy.audit.bundle import BundleParts
from privacy.audit.handed import HandedOver
from privacy.audit.promotions import LoggedPromotion, PromotionRow
from privacy.audit.readers_result import ReadersInterval, SignedReaders
from privacy.audit.signoff import SignedVerdict
from privacy.budget import Limits
from privacy.discrete_gaussian.trial import tried_generator
from privacy.identity import Identity
from privacy.ledger import SqliteLedger, record_bytes
from privacy.ledger.anchors import Anchors
from privacy.ledger.records import GeneratorTried
from privacy.secagg.chain import write_rosters
from privacy.secagg.client import Effects
from privacy.study.manifest import Study, load_study
from privacy.study.pooling import deviation_tried
from server.checkpoint import sha256_of
from server.clock import Timing
from server.promotion_record import PromotionRecord
from server.rounds import ServerModel, run_federation
from server.settings import ConsortiumSettings
from server.status import ReleaseStatus
from server.tables import RunState

if TYPE_CHECKING:
    from client.training.trainer import ShouldStop, StepProgress

MadeMechanism = Literal["pooled", "local"]
MADE_RUN: Final = 1
_AUDITOR: Final = "dr-weiss"
_RAN_READERS: Final = "ada"
_FIRST_NODE: Final = 1001
_RANK_IN: Final = 6
_TIMING: Final = Timing(join=30.0, poll=0.1, silence=3600.0, fresh=3600.0)


@dataclass(frozen=True)
class StudySize:
    """Of a study that is made: `parameters` of its adapter, `spare` attempts."""

    sites: int = 3
    rounds: int = 2
    parameters: int = 12
    spare: int = 2
    noise: float = 5.0
    strategy: str = "adam"
    names: tuple[str, ...] = ()  # of the sites
    budget: float = 1e4  # of each site, for the study and for ever
    log: bool = True  # whether the coordinator keeps one
    auditors: tuple[tuple[str, str], ...] = ()  # name and key in hex, all of whom are needed
    promoted: bool = False  # and gone back to, on the word of an auditor and of readers of its own


@dataclass(frozen=True)
class MadeStudy:
    """A study that was run, and all keys of it: whoever holds them can be as dishonest as anybody.

    `ledger_keys` sign ledgers, `identities` are the sites', `coordinator` signs steps.
    """

    study: Study
    layout: Layout
    parts: BundleParts
    identities: Mapping[str, Identity]
    ledger_keys: Mapping[str, Ed25519PrivateKey]
    coordinator: Identity


class MovingTrainer(PullTrainer):
    """Also makes updates of its own, for studies of updates."""

    def train(
        self,
        adapter: NDArray[np.float32],
        *,
        progress: StepProgress,
        should_stop: ShouldStop,
    ) -> NDArray[np.float32]:
        """See `RoundTrainer.train`: a small step towards the patients."""
        progress(0, 1)
        way = (self.points.mean(axis=0) - adapter).astype(np.float32)
        progress(1, 1)
        length = np.float32(100 * max(1.0, float(np.linalg.norm(way))))
        step: NDArray[np.float32] = way / length
        return step


class _Patient(SteppedClock):
    """A clock that moves only once all sites have trained."""

    agents: Mapping[str, SiteAgent]

    def sleep(self, seconds: float) -> None:
        """See `RunClock.sleep`."""
        for agent in self.agents.values():
            while not agent.wait(20):
                pass
        super().sleep(seconds)


def made_study(
    folder: Path, mechanism: MadeMechanism = "pooled", size: StudySize | None = None, seed: str = ""
) -> MadeStudy:
    """Run a study in `folder`, which is empty; takes about a second."""
    wanted = size or StudySize()
    names = wanted.names or [f"site-{i:03d}" for i in range(1, wanted.sites + 1)]
    members = SimulatedMembers.of(
        {name: seeded_identity(f"{seed} {name}") for name in names}, consortium="made"
    )
    coordinator = seeded_identity(f"{seed} coordinator")
    layout = made_layout(wanted.parameters)
    if wanted.promoted:
        auditor = (_AUDITOR, made_auditor(seed).public.hex())
        wanted = replace(wanted, auditors=(*wanted.auditors, auditor))
    values = made_values(members, mechanism, wanted, coordinator)
    if wanted.promoted:
        values["promotion"] = {"readers": _demanded(seed)}
    (folder / "study.toml").write_text(to_toml(values), "utf-8")
    study = load_study(folder / "study.toml")
    write_rosters(folder / "rosters.cfl", [members.signed])
    keys = {name: _key(f"{seed} ledger {name}") for name in names}
    with ExitStack() as stack:
        clock = _Patient()
        clock.agents = {}
        ledgers = {
            name: stack.enter_context(_ledger(folder, name, keys[name], members, clock))
            for name in names
        }
        for ledger in ledgers.values():
            ledger.generator_tried(_tried(deviation_tried(study)))
        clock.agents = _agents(study, members, ledgers, layout, clock, wanted.budget)
        for agent in clock.agents.values():
            stack.callback(agent.stop, 1.0)
        consortium = SimulatedConsortium(
            *(folder, study, layout),
            {_FIRST_NODE + i: agent.handle for i, agent in enumerate(clock.agents.values())},
            members.roster,
            clock,
            _TIMING,
            coordinator if study.pools_noise else None,
            members.signed if study.pools_noise and wanted.log else None,
        )
        _run(consortium, study, layout, folder)
        limits = made_limits(study, wanted.budget)
        if wanted.promoted:
            _promote(consortium, study, folder, seed)
        handed = {
            name: _handed(folder, study, ledgers[name], members.identities[name], limits, clock)
            for name in names
        }
    settings = ConsortiumSettings(
        study=folder / "study.toml", state=folder, roster=folder / "rosters.cfl"
    )
    key = coordinator if study.pools_noise else None
    parts = bundle_parts(settings, study, layout, handed, key)
    return MadeStudy(study, layout, parts, members.identities, keys, coordinator)


@cache
def _tried(deviation: int) -> GeneratorTried:
    """What the generator's trial finds; the same seeds each time, so that bundles are the same."""
    stream = BytesIO(shake_256(b"made trial").digest(1 << 10))
    return record_of(tried_generator(deviation, stream.read))


def made_auditor(seed: str) -> Identity:
    """The auditor of a made study whose adapter is promoted."""
    return seeded_identity(f"{seed} auditor")


def _demanded(seed: str) -> dict[str, Any]:
    """What readers must have found; by the key of whoever ran their study."""
    listed = {"name": _RAN_READERS, "key": _made_signer(seed).public.hex()}
    return {"keys": [listed], "readers": 2, "told_apart": 0.6}


def _made_signer(seed: str) -> Identity:
    return seeded_identity(f"{seed} readers")


def _promote(consortium: SimulatedConsortium, study: Study, folder: Path, seed: str) -> None:
    """As `craftsfl rounds promote` and `rollback`: the list first, then the log."""
    digest, name = study.digest().hex(), folder / f"{study.name}-1.safetensors"
    adapter = sha256_of(name)
    unsigned = SignedVerdict(_AUDITOR, "0" * 64, digest, MADE_RUN, adapter, 0, 0)
    signed = SignedVerdict.signed(unsigned, made_auditor(seed))
    read = _guessed(adapter, digest).signed_with(_made_signer(seed))
    record = PromotionRecord(folder / "promotions.json")
    for back in (False, True):
        promotion = LoggedPromotion(digest, 1, MADE_RUN, "1", adapter, back)
        record.add(PromotionRow(promotion, (signed,), (read,)))
    keeper = consortium.log(record.entries)
    if keeper is not None:
        keeper.take_waiting()
        keeper.checkpoint()


def _guessed(adapter: str, study: str) -> SignedReaders:
    """Of readers who cannot tell."""
    return SignedReaders(
        signer=_RAN_READERS,
        key="d" * 64,
        adapter=adapter,
        study=study,
        readers=2,
        questions=800,
        missing=0,
        told_apart=ReadersInterval(0.5, 0.45, 0.55, 320),
        preferred=None,
        time=0,
    )


def to_toml(values: Mapping[str, Any]) -> str:
    """A manifest as TOML: strings, numbers, lists, tables and lists of tables."""
    plain = {key: value for key, value in values.items() if not _is_table(value)}
    lines = [f"{key} = {_toml(value)}" for key, value in plain.items()]
    for key, value in values.items():
        if isinstance(value, Mapping):
            lines += [f"[{key}]", *(f"{name} = {_toml(one)}" for name, one in value.items())]
        elif _is_table(value):
            for row in value:
                lines += [
                    f"[[{key}]]",
                    *(f"{name} = {_toml(one)}" for name, one in row.items()),
                ]
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{name} = {_toml(one)}' for name, one in value.items())} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value)


def _is_table(value: object) -> bool:
    rows = isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)
    return isinstance(value, Mapping) or rows


def _run(consortium: SimulatedConsortium, study: Study, layout: Layout, folder: Path) -> None:
    model: Future[ServerModel] = Future()
    model.set_result(ServerModel(layout, initial_vector(layout, study.digest())))
    federation = replace(consortium.federation(MADE_RUN), model=model, folder=folder / "adapters")
    store = federation.context.store
    try:
        vector = run_federation(federation)
        file = folder / f"{study.name}-1.safetensors"
        save_adapter(file, layout, vector, study.adapter)
        store.keep_release(ReleaseStatus(str(file), sha256_of(file), "", ""))
        store.set_state(RunState.FINISHED)
    finally:
        store.close()


def _ledger(
    folder: Path,
    name: str,
    key: Ed25519PrivateKey,
    members: SimulatedMembers,
    clock: SteppedClock,
) -> SqliteLedger:
    anchors = Anchors(members.identities[name])
    return SqliteLedger(
        folder / f"{name}.sqlite", key, site=name, clock=clock.time, anchors=anchors
    )


def _agents(
    study: Study,
    members: SimulatedMembers,
    ledgers: Mapping[str, SqliteLedger],
    layout: Layout,
    clock: SteppedClock,
    budget: float,
) -> dict[str, SiteAgent]:
    target = np.linspace(-1, 1, layout.parameters).astype(np.float32)
    agents = {}
    for place, (name, ledger) in enumerate(ledgers.items()):
        rules = SiteRules(name, study, _policy(study, budget))
        patients = study.sites[place].declared_patients
        trainer = MovingTrainer(layout, target, patients, seed=place)
        parts = AgentParts(rules, ledger, trainer, clock=clock.monotonic)
        agents[name] = members.agent(name, parts, Effects(clock.time))
    return agents


def _handed(
    folder: Path,
    study: Study,
    ledger: SqliteLedger,
    identity: Identity,
    limits: Limits,
    clock: SteppedClock,
) -> HandedOver:
    head, name = ledger.head(), ledger.chain().genesis.site
    records = record_bytes(folder / f"{name}.sqlite", head)
    whole = (head, records, ledger.entries())
    return HandedOver.of(name, study, identity, limits, whole, clock.time())


def made_limits(study: Study, budget: float = 1e4) -> Limits:
    """What every site of a made study allows."""
    return limits_of(_policy(study, budget))


def made_layout(parameters: int) -> Layout:
    """Of an adapter of so many numbers, over one frozen factor."""
    return Layout(
        (LayoutEntry("up.attn2.to_v.lora_B.weight", (parameters, 1), "float32"),),
        frozen=(LayoutEntry("up.attn2.to_v.lora_A.weight", (1, _RANK_IN), "float32"),),
    )


def made_values(
    members: SimulatedMembers, mechanism: MadeMechanism, size: StudySize, coordinator: Identity
) -> dict[str, Any]:
    """The manifest of a study, as plain values."""
    values: dict[str, Any] = {
        "name": f"made-{mechanism}",
        "rounds": size.rounds,
        "base": {"digest": "sha256:" + "0" * 64, "source": "tiny"},
        "adapter": {"targets": ["attn2.to_v"], "rank": 1, "alpha": 2, "frozen_a": True},
        "training": {
            "sampling_rate": 1.0,
            "steps": 1,
            "tiles_per_patient": 2,
            "draws_per_tile": 2,
            "clipping_norm": 0.002,
            "noise_multiplier": size.noise,
        },
        "privacy": {"mechanism": mechanism, "delta": 1e-5, "noise_colluders": 1},
        "cohort": {"min_sites": 3, "round_deadline": 120, "reply_slot": 60},
        "secure_aggregation": {"roster": members.roster.digest().hex()},
        "samples": {"prompts": ["glands"], "seeds": [1]},
        "sites": [{"name": name, "declared_patients": 500} for name in members.identities],
    }
    if size.auditors:
        listed = [{"name": name, "key": key} for name, key in size.auditors]
        values["auditors"] = {"needed": len(listed), "keys": listed}
    return _pooled(values, size, coordinator) if mechanism == "pooled" else _local(values, size)


def _pooled(values: dict[str, Any], size: StudySize, coordinator: Identity) -> dict[str, Any]:
    values["pooled"] = {
        "parameters": size.parameters,
        "grid": 8.0,
        "spare_attempts": size.spare,
        "session_hours": 2.0,
        "coordinator_key": coordinator.public.hex(),
    }
    kinds = ("clipping_norm", "learning_rate", "adapter", "rounds", "reply_slot")
    values["chosen"] = dict.fromkeys(kinds, "rehearsal: made for a bench")
    values["aggregation"] = {"strategy": size.strategy, "learning_rate": 0.02, "beta2": 0.95}
    return values


def _local(values: dict[str, Any], size: StudySize) -> dict[str, Any]:
    del values["privacy"]["noise_colluders"]
    values["training"] |= {
        "sampling_rate": 0.25,
        "steps": 2,
        "optimizer": "sgd",
        "learning_rate": 0.1,
    }
    values["privacy"]["attempts"] = size.spare
    values["aggregation"] = {"strategy": "fedavg"}
    values["secure_aggregation"] |= {"bound": 1.0, "bits": 24, "exchange_deadline": 30.0}
    return values


def _policy(study: Study, budget: float) -> Policy:
    return Policy(
        epsilon=budget,
        delta=study.privacy.delta,
        study_epsilon=budget,
        studies=(study.digest().hex(),),
        bases=(study.base.digest,),
        encoders=(ANY,),
        mechanisms=(study.privacy.mechanism,),
        roster=study.secure_aggregation.roster,
        max_rounds=study.rounds,
        max_attempts=study.attempts_a_round,
        min_reply_slot=1.0,
        min_noise_multiplier=0.01,
        max_spare_attempts=100,
        max_clipping_norm=study.training.clipping_norm,
        max_absent=max(0, len(study.sites) - study.smallest_cohort),
    )


def _key(seed: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(shake_256(seed.encode()).digest(32))
