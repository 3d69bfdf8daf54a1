"""A pooled study around site agents: a coordinator of a few lines, and agents that are real."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.agent.log_file import LogFile
from client.agent.ready import SiteMemory
from client.agent.sealed_agent import SealedAgent
from client.agent.site_agent import AgentParts
from client.agent.witness import WitnessFile
from client.policy import SiteRules
from craftsfl.simulation.clock import SteppedClock
from craftsfl.simulation.members import SimulatedMembers
from craftsfl.simulation.pull import PullTrainer
from model.layout import Layout, LayoutEntry, frozen_digest
from privacy.ledger import Ledger
from privacy.ledger.anchors import Anchors
from privacy.secagg.client import Effects
from privacy.secagg.sealed.attempt import ready_entry
from privacy.secagg.sealed.label import (
    SealedStudy,
    epoch_of,
    label_of,
    session_digest,
    session_digests,
)
from privacy.secagg.sealed.opening import offered_session, signed_step
from privacy.study.manifest import Study
from privacy.study.pooling import sealed_study
from privacy.wire.bodies import Body, Hello, Running
from privacy.wire.checks import Check
from privacy.wire.envelope import Envelope, open_envelope, seal
from privacy.wire.sealed import (
    OpenedSum,
    Sealed,
    SealedCollect,
    SealedReady,
    SealedStep,
    StepForm,
)
from privacy.wire.secagg import SecAggRefusal
from privacy.wire.session import SessionKey, SessionKeys, SessionOffer, SessionOpening
from strategies.chain import AdapterChain
from strategies.pooled import begin_chain, digests_of, following, link_of, scale_of
from tests.pooled_study import COORDINATOR, pooled_values
from tests.privacy.ledger.ledgers import open_test_ledger
from tests.privacy.secagg.sealed import oracle

from .studies import make_policy, seeded_bytes

NAMES = ("north", "harbour", "hillside", "site-4", "site-5")
MEMBERS = SimulatedMembers.seeded(NAMES[:3], consortium="pooled")
P = 12
LAYOUT = Layout(
    (LayoutEntry("up.lora_B.weight", (P, 1), "float32"),),
    frozen=(LayoutEntry("up.lora_A.weight", (1, 6), "float32"),),
)
PATIENTS = 500
RUN = 1
SLOT = 60.0  # seconds, as in the study
MEMBERS_OF_FOUR = SimulatedMembers.seeded(NAMES[:4], consortium="pooled")


def sealed_study_of_four(min_sites: int = 3, *, rounds: int = 3, spare: int = 2) -> Study:
    """The study over four members, of which one may be missing."""
    values = sealed_values(MEMBERS_OF_FOUR, sites=4, rounds=rounds)
    values["cohort"]["min_sites"] = min_sites
    values["pooled"]["spare_attempts"] = spare
    return Study.model_validate(values)


def sealed_values(members: SimulatedMembers = MEMBERS, **sizes: Any) -> dict[str, Any]:
    """A pooled study over the first three members, for `LAYOUT`."""
    values = pooled_values(parameters=P, roster=members.roster.digest().hex(), **sizes)
    values["aggregation"] = {"strategy": "adam", "learning_rate": 0.1, "beta2": 0.9}
    return values


def sealed_rules(study: Study, name: str = "north", **policy: Any) -> SiteRules:
    """What the site `name` allows: this study, and everything that it asks for."""
    own = {
        "mechanisms": ("pooled",),
        "roster": study.secure_aggregation.roster,
        "min_reply_slot": 1.0,
        **policy,
    }
    return SiteRules(name, study, make_policy(**own))


@dataclass
class SealedSites:
    """The agents of a study's sites, each with a ledger in `folder`, and one clock for all."""

    folder: Path
    study: Study = field(default_factory=lambda: Study.model_validate(sealed_values()))
    members: SimulatedMembers = MEMBERS
    policy: Mapping[str, Any] = field(default_factory=dict)
    unix: SteppedClock = field(default_factory=SteppedClock)
    elapsed: SteppedClock = field(default_factory=SteppedClock)
    seed: bytes = b""  # of all keys and noise; none: the system's
    layout: Layout = LAYOUT
    keeps_chains: bool = False  # in files, over restarts
    witnesses: bool = False  # with ledgers that are bound, and memories in files

    def __post_init__(self) -> None:
        target = np.linspace(-1, 1, self.layout.parameters).astype(np.float32)
        self.trainers = {
            site: PullTrainer(self.layout, target, PATIENTS, seed=site) for site in self.sites
        }
        self.ledgers: dict[int, Any] = {}
        self.agents: dict[int, SealedAgent] = {}
        for site in self.sites:
            self.start(site)

    @property
    def sites(self) -> tuple[int, ...]:
        return tuple(range(1, len(self.study.sites) + 1))

    def start(self, site: int) -> SealedAgent:
        """Start the site's agent, the one before it having died."""
        if site in self.ledgers:
            self.ledgers[site].close()
        name = self.name(site)
        anchors = Anchors(self.members.identities[name]) if self.witnesses else None
        self.ledgers[site] = open_test_ledger(
            self.folder / f"{name}.sqlite", site=name, clock=self.unix.time, anchors=anchors
        )
        self.agents[site] = self.agent(site, self.ledgers[site])
        return self.agents[site]

    def agent(self, site: int, ledger: Ledger) -> SealedAgent:
        """An agent of the site on this ledger."""
        name = self.name(site)
        parts = AgentParts(
            self.rules(site), ledger, self.trainers[site], clock=self.elapsed.monotonic
        )
        random = seeded_bytes(self.seed + name.encode()) if self.seed else os.urandom
        memory = SiteMemory(chain=self.chain_file(site) if self.keeps_chains else None)
        if self.witnesses:
            witness = WitnessFile(self.folder / f"{name}.peers.json")
            log = LogFile(self.folder / f"{name}.log.json")
            memory = replace(memory, witness=witness, log=log)
        agent = self.members.agent(name, parts, Effects(self.unix.time, random), memory)
        assert isinstance(agent, SealedAgent)
        return agent

    def chain_file(self, site: int) -> Path:
        return self.folder / f"{self.name(site)}.chain"

    def name(self, site: int) -> str:
        return self.study.sites[site - 1].name

    def rules(self, site: int) -> SiteRules:
        return sealed_rules(self.study, self.name(site), **self.policy)

    def sleep(self, seconds: float, *, wait: bool = True) -> None:
        """Let all training end, unless told not to `wait`; then `seconds` pass."""
        for agent in self.agents.values():
            if wait and agent._attempt is not None:
                assert agent._attempt.work.wait(20)
        self.unix.sleep(seconds)
        self.elapsed.sleep(seconds)

    def close(self) -> None:
        for agent in self.agents.values():
            agent.stop(5)
        for ledger in self.ledgers.values():
            ledger.close()


@dataclass
class TinyCoordinator:
    """What a coordinator does with sealed steps, without a store, a grid or patience."""

    sites: SealedSites
    run: int = RUN

    def __post_init__(self) -> None:
        study, roster = self.sites.study, self.sites.members.roster
        self.roster = roster
        self.sealed: SealedStudy = sealed_study(
            study, roster, self.sites.layout.fingerprint(), frozen_digest(self.sites.layout)
        )
        self.chain: AdapterChain = begin_chain(study, self.sites.layout)
        self.sums: list[OpenedSum] = []
        self.number = 0
        self.offer: SessionOffer | None = None
        self.opening: SessionOpening | None = None

    def ask(self, site: int, body: Body, round: int = 0, attempt: int = 0) -> Body:
        message = seal(Envelope(self.run, round, attempt, body))
        return self.opened(self.sites.agents[site].handle(message))

    def opened(self, reply: bytes) -> Body:
        return open_envelope(reply, limit=self.sites.agents[2].limit).body

    def hello(self, site: int) -> Body:
        return self.ask(site, Hello(self.sites.study.digest(), 7, self.roster.digest()))

    def offered(self, members: tuple[int, ...] | None = None, **changes: Any) -> SessionOffer:
        """A signed offer of the next session."""
        self.number += 1
        made = {
            "session": self.number,
            "members": members or self.sites.sites,
            "expiry": int(self.sites.unix.time()) + 3600,
            **changes,
        }
        return offered_session(COORDINATOR, self.sealed, self.run, **made)

    def open(self, members: tuple[int, ...] | None = None) -> SessionOpening:
        """A whole session set-up."""
        self.offer = self.offered(members)
        keys = []
        for site in self.offer.members:
            key = self.ask(site, self.offer)
            assert isinstance(key, SessionKey), key
            keys.append(key)
        listed = SessionKeys(tuple(keys))
        group = self.ask(self.offer.members[0], listed)
        self.opening = SessionOpening(listed, group)  # type: ignore[arg-type]
        return self.opening

    def step(
        self,
        attempt: int = 1,
        *,
        cohort: tuple[int, ...] | None = None,
        form: StepForm = StepForm.DIRECT,
        slot: float | None = None,
        chain: AdapterChain | None = None,
        number: int | None = None,
        **changes: Any,
    ) -> SealedStep:
        """The next step, signed, with its label; `changes` are made before that."""
        assert self.offer is not None
        assert self.opening is not None
        own, unix = digests_of(chain or self.chain), self.sites.unix.time()
        seconds = self.sites.study.cohort.reply_slot if slot is None else slot
        made = SealedStep(
            session_digest=session_digest(self.offer),
            step=number or self.chain.steps + 1,
            attempt=attempt,
            form=form,
            slot=round(1000 * (unix + seconds)),
            adapter=own.adapter,
            state=own.state,
            sums=own.sums,
            cohort=cohort or self.offer.members,
            label=bytes(32),
            opening=self.opening,
            opened=tuple(self.sums[-1:]),
        )
        made = replace(made, **changes)
        epoch = epoch_of(self.offer, made.step, made.attempt)
        digests = session_digests(self.offer, self.opening)
        label = label_of(self.sealed, digests, epoch, own, made)
        return signed_step(COORDINATOR, replace(made, label=label))

    def begun(self, attempt: int = 1, **made: Any) -> SealedStep:
        """The next step, which all of its cohort have begun."""
        step = self.step(attempt, **made)
        for site, answer in self.send_all(step).items():
            assert answer == Running(), (site, answer)
        return step

    def without_opening(self, step: SealedStep) -> SealedStep:
        return replace(step, opening=None, opened=())

    def with_sums(self, step: SealedStep, sums: Iterable[OpenedSum]) -> SealedStep:
        return replace(step, opened=tuple(sums))

    def collect(self, step: SealedStep, ready: Mapping[int, Body]) -> SealedCollect:
        entries = []
        for site, answer in ready.items():
            assert isinstance(answer, SealedReady), answer
            entries.append((site, ready_entry(answer)))
        return SealedCollect(step.label, tuple(entries))

    def mean(self) -> NDArray[np.float64]:
        """The newest opened mean, in units of C."""
        link = link_of(self.sums[-1], self.sites.study)
        scale = scale_of(self.sites.study, self.roster, self.sums[-1].cohort)
        mean: NDArray[np.float64] = scale.open(link.fields) / scale.patients
        return mean

    def bytes_of(self, step: SealedStep, site: int) -> bytes:
        """The whole answer, as it leaves."""
        message = seal(Envelope(self.run, step.step, step.attempt, step))
        return self.sites.agents[site].handle(message)

    def send(self, step: SealedStep, site: int) -> Body:
        return self.ask(site, step, step.step, step.attempt)

    def send_all(self, step: SealedStep, sites: Iterable[int] | None = None) -> dict[int, Body]:
        return {site: self.send(step, site) for site in sites or step.cohort}

    def added(self, step: SealedStep, answers: Mapping[int, Body]) -> OpenedSum:
        """The sum of what came."""
        rows = []
        for answer in answers.values():
            assert isinstance(answer, Sealed), answer
            rows.append(answer.lanes.tolist())
        lanes = np.array(oracle.added(rows, self.sealed.bits), np.uint64)
        assert self.offer is not None
        return OpenedSum(
            self.offer.session, step.step, step.attempt, step.label, step.cohort, lanes
        )

    def whole(self, attempt: int = 1, **made: Any) -> OpenedSum:
        """One whole step, and its sum, which the chain takes."""
        step = self.begun(attempt, **made)
        self.sites.sleep(self.sites.study.cohort.reply_slot)
        found = self.added(step, self.send_all(step))
        assert found.lanes[self.sealed.lanes] == 0
        self.take(found)
        return found

    def take(self, found: OpenedSum) -> None:
        self.sums.append(found)
        self.chain = following(self.chain, [found], self.sites.study, self.roster)


def check_of(body: Body) -> Check:
    """Why a message was refused."""
    assert isinstance(body, SecAggRefusal), body
    return body.check


def state_of(sites: SealedSites, site: int) -> tuple[object, ...]:
    """All state of an agent that a message could change."""
    agent, machine = sites.agents[site], sites.agents[site]._machine
    attempt = agent._attempt
    return (
        sites.ledgers[site].entries(),
        sites.ledgers[site].newest_session(sites.study.digest()),
        agent._runs.newest_attempt,
        (attempt, attempt and attempt.reply, sites.trainers[site].calls),
        agent._chain.current.sums_digest,
        machine and (machine.session, machine._session, machine._open, machine.pending),
    )
