"""`craftsfl site budget`: reads settings and ledger, shows what was spent. Changes nothing."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from client.agent.own_ledger import read_named_ledger
from client.agent.startup import load_rules
from client.agent.state import StateFolder
from craftsfl.site.budget.explain import Explanation, explanation, show_explanation
from craftsfl.site.budget.picture import check_picture_path, draw_picture
from craftsfl.site.budget.published import Published, published, show_published
from craftsfl.site.budget.statement import Line, Statement, statement_of
from craftsfl.site.budget.table import show_table
from craftsfl.site.joining.earlier import earlier_names
from craftsfl.terminal import output
from privacy.ledger import LedgerView


@dataclass(frozen=True, slots=True)
class BudgetOptions:
    """What was asked for on the command line."""

    picture: Path | None = None
    explain: bool = False
    publish: bool = False
    as_json: bool = False


def show_budget(site_toml: Path, options: BudgetOptions) -> None:
    """Print the budget of the site of `site_toml`; its agent may be running.

    Raises `ConfigError` for wrong settings and `LedgerError` for a ledger that is not sound.
    """
    if options.picture is not None:
        check_picture_path(options.picture)
    found = load_rules(site_toml)
    settings, rules = found.settings, found.rules
    view = read_named_ledger(StateFolder(settings.agent.state), settings, rules.study)
    statement = statement_of(
        rules, view.entries() if view is not None else (), earlier_names(settings.study)
    )
    explained = explanation(statement) if options.explain else None
    figures = published(statement) if options.publish else None
    console = output()
    if options.as_json:
        values = as_values(statement, view, explained)
        if figures is not None:
            values["published"] = [_figure(item) for item in figures]
        console.print_json(json.dumps(values, allow_nan=False), highlight=False)
    else:
        show_table(statement, console)
        _show_ledger(view, console)
        if figures is not None:
            show_published(statement, figures, console)
        if explained is not None:
            show_explanation(statement, explained, console)
    if options.picture is not None:
        draw_picture(statement, options.picture)
        if not options.as_json:
            console.print(f"Picture: {options.picture}", highlight=False, markup=False)


def as_values(
    statement: Statement, view: LedgerView | None, explained: Explanation | None
) -> dict[str, object]:
    """What `--json` prints; infinite epsilons are null, times are seconds since 1970."""
    values: dict[str, object] = {
        "site": statement.site,
        "unit": "patient",
        "ledger": _head(view),
        "lifetime": {
            "epsilon": _finite(statement.epsilon),  # used of the budget
            "epsilon_used": _finite(statement.epsilon),
            "delta": statement.delta,
            "budget": statement.budget,
            "budget_delta": statement.budget_delta,
            "across_studies": statement.composition,
        },
        "whole_study": _whole(statement),
        "noise": _noise(statement),
        "studies": [_line(line) for line in statement.lines],
        "spending": [
            {
                "time": point.time,
                "study": point.study,
                "epsilon": _finite(point.epsilon),
                "lifetime": _finite(point.lifetime),
            }
            for point in statement.points
        ],
    }
    if explained is not None:
        values["attacks"] = [
            {"case": case.name, "false_positives": attack.fpr, "true_positives": attack.tpr}
            for case in explained.cases
            for attack in case.attacks
        ]
        values["known_to"] = {str(sites): value for sites, value in explained.known_to.items()}
        values["known_under"] = {str(ids): value for ids, value in explained.known_under.items()}
    return values


def _figure(item: Published) -> dict[str, object]:
    about = {"study": item.study, "delta": item.delta, "attempts": item.attempts}
    more: dict[str, object] = {"schedule": item.schedule, "log_factor": item.log_factor}
    if item.masks_broken is not None:
        more["masks_broken"] = _finite(item.masks_broken)
    return {**about, **asdict(item.figure), **more}


def _whole(statement: Statement) -> dict[str, object]:
    found = statement.at_its_end
    return {
        "attempts": len(statement.schedule),
        "epsilon": _finite(found.study.after),
        "budget": found.study.budget,
        "lifetime_epsilon": _finite(found.lifetime.after),
        "lifetime_budget": found.lifetime.budget,
        "refused": statement.refused,
    }


def _noise(statement: Statement) -> dict[str, object]:
    """What the whole schedule of the present study costs against whom; K is in these figures."""
    return {
        "schedule": statement.schedule_words,
        "pooled": statement.present.pooled,
        "against": {who.value: _finite(value) for who, value in statement.against.items()},
        "charged_against": [who.value for who in statement.charged],
        "log_factor": statement.log_factor,
    }


def _line(line: Line) -> dict[str, object]:
    return {
        "digest": line.digest.hex(),
        "name": line.name or None,
        "rounds": line.rounds,
        "attempts": line.attempts,
        "not_charged": line.lost,
        "epsilon": _finite(line.epsilon),  # used of the budget
        "epsilon_used": _finite(line.epsilon),
        "delta": line.delta,
        "budget": line.budget,
        "rounds_left": line.rounds_left,
    }


def _head(view: LedgerView | None) -> dict[str, object] | None:
    if view is None:
        return None
    head = view.head()
    values = {"id": head.ledger.hex(), "sequence": head.sequence, "hash": head.hash.hex()}
    return {**values, "generator": _trial(view)}


def _trial(view: LedgerView) -> dict[str, object] | None:
    if view.tried is None:
        return None
    found, seconds = view.tried
    return {
        "time": seconds,
        "passed": found.passed,
        "known": found.known,
        "variance": _finite(found.variance),
        "draws": found.draws,
    }


def _show_ledger(view: LedgerView | None, console: Console) -> None:
    text = "No agent has worked here yet: there is no ledger."
    if view is not None:
        text = (
            f"The ledger is whole and signed, and bound to the key that the roster gives to "
            f"{view.site}; its head is {view.head()}.{_trial_words(view)}"
        )
    console.print(text, highlight=False, markup=False)


def _trial_words(view: LedgerView) -> str:
    if view.tried is None:
        return ""
    found, seconds = view.tried
    when = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
    verdict = "passed" if found.passed else "FAILED: nothing is trained until it passes"
    return (
        f" The noise's generator was tried at the agent's last start, {when}: {verdict} (variance "
        f"{found.variance:.3f} of what it must be, over {found.draws} draws)."
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
