"""A long course with random misses and restarts: what holds over all of it."""

import random

import numpy as np
import pytest

from privacy.errors import SecAggError
from privacy.secagg.refusals import Aborted
from privacy.secagg.sealed.attempt import sent_digest
from privacy.secagg.sealed.server import SealedServer
from privacy.wire.bodies import Running
from privacy.wire.sealed import Sealed, SealedCollect, StepForm
from tests.privacy.secagg.sealed.world import COORDINATOR, SealedWorld, numbers_of, total_of


class Trial:
    """A coordinator that goes on whatever happens, and what was seen to leave the sites."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.world = SealedWorld(attempts=12, steps=8, most_changes=0)
        self.server = self.world.open()
        self.left: dict[tuple[int, bytes], set[bytes]] = {}  # by site and label
        self.lost = 0

    def step(self, step: int) -> None:
        for attempt in range(1, self.world.attempts + 1):
            form = self.dice.choice(list(StepForm))
            if self.attempt(step, attempt, form):
                return
            self.lost += 1
            if self.dice.random() < 0.7 and self.fresh():
                continue
            self.server = self.world.open(first=step)
        raise AssertionError("no attempt of twelve opened")

    def fresh(self) -> bool:
        """Whether all sites still have the session's keys."""
        sessions = {client.session for client in self.world.clients.values()}
        return sessions == {self.server.offer.session}

    def attempt(self, step: int, attempt: int, form: StepForm) -> bool:
        world = self.world
        world.begin(self.server, step, attempt, form=form)
        self.incident()
        if not self.asked(Running):
            return False
        self.incident()
        vectors = world.vectors(100 * step + attempt)
        late = {site for site in world.sites if self.dice.random() < 0.05}
        for site in set(world.sites) - late:
            client = world.clients[site]
            if client.pending is not None:
                client.provide(client.pending.label, numbers_of(vectors[site]))
        world.to_slot()
        self.incident()
        while self.server.waiting:
            if not self.asked(None):
                return False
        try:
            opened = self.server.result()
        except Aborted:
            return False
        assert np.array_equal(opened.packed, total_of(vectors, world.sites))
        world.sums.append(opened)
        return True

    def asked(self, wanted: type | None) -> bool:
        """Every waiting site is asked, some twice; False where one refuses or is silent."""
        complete = True
        for site, body in self.server.requests().items():
            try:
                for _ in range(self.dice.choice((1, 1, 2))):
                    answer = self.answer(site, body)
            except SecAggError:
                self.server.drop(site)
                return False
            if self.dice.random() < 0.02:
                complete = False  # its answer was lost, and the coordinator does not ask again
                continue
            assert wanted is None or isinstance(answer, wanted)
            self.server.receive(site, answer)
        return complete

    def answer(self, site: int, body):
        client = self.world.clients[site]
        if isinstance(body, SealedCollect):
            answer = client.collect(body)
        else:
            answer = client.step(body, lambda _: self.world.chain())
        if isinstance(answer, Sealed):
            sent = sent_digest(answer.lanes)
            self.left.setdefault((site, answer.label), set()).add(sent)
            assert sent in self.world.disks[site].charged()
        return answer

    def incident(self) -> None:
        kind = self.dice.random()
        if kind < 0.03:
            self.world.restart(self.dice.choice(self.world.sites))
        elif kind < 0.15:
            stored = self.server.stored()
            world = self.world
            self.server = SealedServer.restored(COORDINATOR, world.roster, world.study, stored)
            for site in world.sites:
                self.server.tell(site, tuple(world.sums[-1:]))


@pytest.fixture(scope="module", params=range(6))
def trial(request) -> Trial:
    made = Trial(request.param)
    for step in range(1, 9):
        made.step(step)
    return made


def test_every_step_opens_in_spite_of_what_is_lost(trial):
    assert [opened.step for opened in trial.world.sums] == list(range(1, 9))
    assert trial.lost > 0  # else these courses would show nothing


def test_one_vector_for_a_label_and_one_label_for_an_attempt(trial):
    """Over misses, repetitions, restarts of both sides, both forms and several sessions."""
    assert all(len(sent) == 1 for sent in trial.left.values())
    for site, disk in trial.world.disks.items():
        intents = [record[1] for record in disk.done if record[0] == "begin"]
        numbers = [(one.run, one.step, one.attempt) for one in intents]
        assert numbers == sorted(set(numbers))
        epochs = [(one.session, one.epoch) for one in intents]
        assert epochs == sorted(set(epochs))
        charged = [record[1].label for record in disk.done if record[0] == "charge"]
        assert len(charged) == len(set(charged))  # one charge for an attempt
        assert {label for one, label in trial.left if one == site} <= set(charged)
