"""One attempt at a round, masked or plain as the study says."""

from __future__ import annotations

from collections.abc import Sequence

from privacy.errors import ConfigError
from privacy.secagg.roster import Roster
from server.masked import MaskedAttempt
from server.parts import Order, Outcome, Post
from server.plain import PlainAttempt
from server.roster import Member


def run_attempt(
    post: Post, order: Order, members: Sequence[Member], roster: Roster | None
) -> Outcome:
    """Ask `members` to train, and give their mean update, or say why there is none.

    `roster` is the consortium's; a plain study needs none.
    """
    if not post.study.masked:
        return PlainAttempt(post, order, members).run()
    return MaskedAttempt(post, order, members, known(roster)).run()


def known(roster: Roster | None) -> Roster:
    """`roster`, or a `ConfigError` where the coordinator was given none."""
    if roster is None:
        raise ConfigError(
            "Secure aggregation needs the consortium's roster.",
            "Set `roster` in consortium.toml to the signed file: craftsfl rounds roster show",
        )
    return roster
