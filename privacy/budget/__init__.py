"""What charges cost, what a site's limits leave, and whether one more attempt may be made.

The only place that composes the epsilon of charges (ADR 24). Pure: frozen values, no files.
"""

# Why: docs/adr/0024-one-place-for-budgets.md

from privacy.budget.allowance import Allowance, Budgets, Outlook
from privacy.budget.attempts import (
    Objection,
    StudyCharges,
    cannot_end,
    may_begin,
    to_its_end,
    whole_figures,
)
from privacy.budget.book import Book
from privacy.budget.cost import (
    attempts_behind,
    cost_by_observer,
    cost_of_attempts,
    log_factor_of,
    study_cost,
)
from privacy.budget.limits import Limits

__all__ = [
    "Allowance",
    "Book",
    "Budgets",
    "Limits",
    "Objection",
    "Outlook",
    "StudyCharges",
    "attempts_behind",
    "cannot_end",
    "cost_by_observer",
    "cost_of_attempts",
    "log_factor_of",
    "may_begin",
    "study_cost",
    "to_its_end",
    "whole_figures",
]
