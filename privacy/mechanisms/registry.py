"""All mechanisms, one line each; anything else is refused."""

from __future__ import annotations

from privacy.errors import AccountingError, ConfigError
from privacy.events import Event
from privacy.mechanisms.base import Mechanism
from privacy.mechanisms.local import LocalGaussian, PoissonGaussian
from privacy.mechanisms.pooled.mechanism import PooledNoise
from privacy.strict_json import read_json

MECHANISMS: tuple[type[Mechanism], ...] = (LocalGaussian, PooledNoise)

# Of mechanisms as they were: ledgers hold them.
_PAST_EVENTS: tuple[type[Event], ...] = (PoissonGaussian,)


def mechanism_names() -> tuple[str, ...]:
    """What a policy may list under `mechanisms`."""
    return tuple(mechanism.NAME for mechanism in MECHANISMS)


def mechanism_named(name: str) -> type[Mechanism]:
    """The mechanism that is called `name`; raises `ConfigError` where there is none."""
    for mechanism in MECHANISMS:
        if name == mechanism.NAME:
            return mechanism
    raise ConfigError(f"There is no mechanism {name!r}.", f"Use {' or '.join(mechanism_names())}.")


def check_registered(event: object) -> None:
    """Raise `AccountingError` unless `event` belongs to a mechanism above: no ledger holds others.

    By exact type: a subclass may mean something else.
    """
    if type(event) not in _events():
        raise AccountingError(f"{type(event).__name__} cannot be accounted for.")


def event_from_json(text: str) -> Event:
    """The event that `Event.to_json` wrote; unknown names, versions, keys and types are refused.

    dp-accounting's events have no safe form of this kind: `from_named_tuple` imports whatever the
    data names.
    """
    try:
        values = read_json(text)
    except ValueError as error:
        raise AccountingError(
            "An event record is not valid JSON.", "The ledger or bundle holding it is damaged."
        ) from error
    if not isinstance(values, dict):
        raise AccountingError("An event record is not a JSON object.", "See privacy/events.py.")
    name, version = values.pop("event", None), values.pop("version", None)
    for event in _events():
        if (name, version) == (event.NAME, event.VERSION):
            return event.of_json(values)
    raise AccountingError(
        f"Unknown event {name!r}, version {version!r}.",
        "It cannot be accounted for; a newer craftsfl may know it.",
    )


def _events() -> set[type[Event]]:
    return {*_PAST_EVENTS, *(mechanism.EVENT for mechanism in MECHANISMS)}
