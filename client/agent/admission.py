"""Whether a site may begin an attempt: a pure check of its rules and of what its ledger holds."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from client.agent.budget import Budgets, budgets, why_refused
from client.policy import SiteRules
from privacy.ledger import AttemptKey, Charge, Entry, State
from privacy.wire.bodies import Refusal
from privacy.wire.reasons import Reason

_log = logging.getLogger("craftsfl.agent")


def admitted(
    rules: SiteRules, entries: Sequence[Entry], charge: Charge, key: AttemptKey
) -> Budgets | Refusal:
    """What the budgets will be once the attempt `key` is charged, or why there may be none."""
    study, policy = rules.study, rules.policy
    if not 1 <= key.round <= study.rounds or not 1 <= key.attempt <= study.privacy.attempts:
        return Refusal(Reason.POLICY)
    too_many = _too_many(rules, entries, charge)
    if too_many:
        _log.warning("Round %d refused: %s.", key.round, too_many)
        return Refusal(Reason.POLICY)
    found = budgets(policy, entries, charge)
    if charge.event.no_privacy:
        return found if policy.allow_no_privacy else Refusal(Reason.POLICY)
    if not found.fit:
        why = why_refused(policy, found, entries, charge)
        _log.warning("Round %d refused: %s.", key.round, why)
        line = found.study
        return Refusal(Reason.BUDGET, line.spent, line.after, line.budget)
    return found


def _too_many(rules: SiteRules, entries: Sequence[Entry], charge: Charge) -> str:
    """Why there may be no further attempt, whatever it costs; "" if there may.

    A coordinator that begins a study anew, with new run numbers, gains nothing by it.
    """
    study = rules.study
    own = sum(entry.charge.study_digest == charge.study_digest for entry in entries)
    if own >= study.rounds * study.privacy.attempts:
        return (
            f"the study has had all of its {study.rounds} rounds x "
            f"{study.privacy.attempts} attempts, over all runs"
        )
    lost = sum(entry.state is State.INTENT for entry in entries)
    if lost >= rules.policy.max_lost_attempts:
        return (
            f"{lost} attempts were started and never collected; max_lost_attempts in "
            "policy.toml allows no more"
        )
    return ""
