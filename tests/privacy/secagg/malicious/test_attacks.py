"""Each attack of a malicious server, by name: refused by every site, and nothing has changed."""

import itertools

import pytest

from privacy.secagg.client import SecAggClient
from privacy.secagg.refusals import Refused
from privacy.secagg.server import Stage
from privacy.wire.secagg import SecAggRefusal, Survivors, Unmask, UnmaskRequest
from tests.privacy.secagg.consortium import World, frozen, reach, site_ids, unchanged
from tests.privacy.secagg.malicious import offers, shares, unmasking
from tests.privacy.secagg.malicious.strikes import ATTACKS


def test_all_attacks_are_known():
    """Each module adds its own when it is imported."""
    assert {attack.__module__ for attack in ATTACKS.values()} == {
        module.__name__ for module in (offers, shares, unmasking)
    }


@pytest.mark.parametrize("name", ATTACKS)
def test_it_is_refused_and_nothing_has_changed(name):
    strikes = 0
    for strike in ATTACKS[name]():
        before = frozen(strike.client)
        with pytest.raises(Refused) as refused:
            strike.client.receive(strike.body)
        assert refused.value.check is strike.check
        assert refused.value.body() == SecAggRefusal(strike.check, refused.value.site)
        assert unchanged(before, strike.client)
        strikes += 1
    assert strikes > 0


def unmasked(client: SecAggClient, survivors: tuple[int, ...], request: UnmaskRequest) -> bool:
    try:
        if client.stage.value == "survivors":
            client.receive(Survivors(survivors))
        return isinstance(client.receive(request), Unmask)
    except Refused:
        return False


@pytest.mark.parametrize("split", range(6))
def test_colluders_who_sign_everything_get_one_survivor_set_at_most(split):
    """n = 8, t = 6, n_c = 3: the five honest sites are split in every proportion."""
    world = World(site_ids(8), n_c=3)
    _, clients, _ = reach(world, Stage.CONSISTENCY)
    honest, colluders = world.sites[:5], world.sites[5:]
    sets = (world.sites, world.sites[:-1])
    halves = (honest[:split], honest[split:])
    opened = []
    for survivors, half in zip(sets, halves, strict=True):
        other = World(site_ids(8), n_c=3)
        _, doubles, _ = reach(other, Stage.CONSISTENCY)
        # Colluders have signed both sets: with doubles of themselves. The last one is left out
        # of the second set, which changes nothing for its willingness to sign.
        signers = [(s, clients[s]) for s in half] + [(s, doubles[s]) for s in colluders]
        signatures = [
            (site, client.receive(Survivors(survivors)).signature)
            for site, client in signers
            if site in survivors
        ]
        request = UnmaskRequest(tuple(sorted(signatures)))
        opened.append([unmasked(clients[site], survivors, request) for site in half])
    assert not (any(opened[0]) and any(opened[1]))
    assert any(opened[0]) == (split >= 3)  # with t signatures on one set it goes on


@pytest.mark.parametrize("dropped", [(), (2,), (2, 5)])
def test_no_site_ever_gives_both_shares_of_a_peer(dropped):
    """Every message of the whole attempt, then every survivor set with every genuine request."""
    world = World(site_ids(8))
    server, clients, lanes = world.server(), world.clients(), world.lanes()
    given: dict[int, list[Unmask]] = {site: [] for site in world.sites}
    requests = []
    while server.stage is not Stage.DONE:
        if server.stage is Stage.INPUT:
            for site, client in clients.items():
                client.provide(lanes[site].copy())
        for site, body in server.requests().items():
            requests.append(body)
            if server.stage is Stage.INPUT and site in dropped:
                continue
            answer = clients[site].receive(body)
            server.receive(site, answer)
            if isinstance(answer, Unmask):
                given[site].append(answer)
        server.deadline()
    sets = [Survivors(sites) for sites in itertools.combinations(world.sites, 7)]
    for client in clients.values():
        for body in [*sets, *requests]:
            try:
                answer = client.receive(body)
            except Refused:
                continue
            if isinstance(answer, Unmask):
                given[client.site].append(answer)
    for site, answers in given.items():
        assert len(set(answers)) == (0 if site in dropped else 1)
