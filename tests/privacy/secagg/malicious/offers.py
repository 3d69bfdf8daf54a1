"""What a malicious server offers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from privacy.secagg.server import Stage
from privacy.wire.checks import Check
from privacy.wire.secagg import Advertise, Advertisements
from tests.privacy.secagg.consortium import reach
from tests.privacy.secagg.malicious.strikes import Strike, against_all, attack, world


def offers(check: Check, *changes: dict) -> Iterator[Strike]:
    made = world()
    for change in changes:
        yield from against_all(made.clients(), made.offer(**change), check)


@attack
def sybil_cohort() -> Iterator[Strike]:
    """Sites that the server has invented are in the cohort."""
    made = world()
    padded = tuple(sorted((*made.sites[:3], *range(1000, 1010))))
    victims = {site: made.client(site) for site in made.sites[:3]}
    yield from against_all(victims, made.offer(cohort=padded, threshold=9), Check.COHORT)


@attack
def tiny_cohort() -> Iterator[Strike]:
    """Two sites, or fewer than the policy allows: a peer or the server reads the other."""
    for count, n_min in ((1, 3), (2, 3), (4, 5)):
        made = world(n_min=n_min)
        cohort = made.sites[:count]
        victims = {site: made.client(site) for site in cohort}
        offer = made.offer(cohort=cohort, threshold=2 * count // 3 + 1)
        yield from against_all(victims, offer, Check.COHORT_SIZE)


@attack
def low_threshold() -> Iterator[Strike]:
    """A threshold at which the server and a few helpers can open shares."""
    yield from offers(Check.THRESHOLD, *({"threshold": t} for t in (0, 1, 2, 5)))


@attack
def high_threshold() -> Iterator[Strike]:
    """A threshold that is out of reach after any drop-out."""
    yield from offers(Check.THRESHOLD, {"threshold": 7}, {"threshold": 8}, {"threshold": 65535})


@attack
def too_many_colluders() -> Iterator[Strike]:
    """A cohort in which n_c colluders could make two survivor sets pass."""
    made = world(8, n_c=4)
    yield from against_all(made.clients(), made.offer(), Check.COLLUDERS)


@attack
def alone_among_colluders() -> Iterator[Strike]:
    """The victim and two sites on the server's side: the sum minus theirs is the victim's."""
    made = world(8, n_c=2)
    victim, cohort = made.client(made.sites[0]), made.sites[:3]
    yield Strike(victim, made.offer(cohort=cohort, threshold=3), Check.COLLUDERS)


@attack
def another_model() -> Iterator[Strike]:
    yield from offers(Check.MODEL, {"model_digest": bytes([9]) * 32})


@attack
def another_recipe_or_noise() -> Iterator[Strike]:
    terms = world().terms
    yield from offers(Check.RECIPE, {"terms": replace(terms, recipe_digest=bytes(32))})
    less = replace(terms, noise_multiplier=0.5)
    looser = replace(terms, clipping_norm=9.0)
    yield from offers(Check.PRIVACY, {"terms": less}, {"terms": looser})


@attack
def another_roster() -> Iterator[Strike]:
    yield from offers(Check.ROSTER, {"roster_digest": bytes(32)})


@attack
def offer_without_end() -> Iterator[Strike]:
    yield from offers(Check.EXPIRED, {"expiry": 2**63}, {"expiry": 0})


@attack
def second_offer_for_one_attempt() -> Iterator[Strike]:
    """The same attempt again with other contents, at every later stage."""
    for stage in list(Stage)[1:6]:
        made = world()
        _, clients, _ = reach(made, stage)
        other = made.offer(expiry=made.offer().expiry + 1)
        yield from against_all(clients, other, Check.SECOND_OFFER)


@attack
def two_offers_to_two_halves() -> Iterator[Strike]:
    """Half of the sites train another model; their keys are combined all the same."""
    made = world()
    first, second = made.offer(), made.offer(model_digest=bytes([9]) * 32)
    half = made.sites[:4]
    clients = {
        site: made.client(site, **({} if site in half else {"model_digest": bytes([9]) * 32}))
        for site in made.sites
    }
    entries = []
    for site, client in clients.items():
        entry = client.receive(first if site in half else second)
        assert isinstance(entry, Advertise)
        entries.append(entry)
    yield from against_all(clients, Advertisements(tuple(entries)), Check.SIGNATURE)
    for part in (entries[:4], entries[4:]):
        victims = {entry.site: clients[entry.site] for entry in part}
        yield from against_all(victims, Advertisements(tuple(part)), Check.TOO_FEW)
