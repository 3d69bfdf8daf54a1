"""What an empirical audit says: tables for people, JSON for programs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from craftsfl.empirical.audit import (
    MechanismAudit,
    OneRunAudit,
    audit_mechanism,
    audit_one_run,
)
from craftsfl.empirical.cohort import Audited
from craftsfl.terminal import output, progress_bars

_MEANING = (
    "This tries the code that is installed here, with made-up patients and a public base. It shows "
    "faults; that it shows none proves nothing, and it says nothing of another site's machine."
)


@dataclass(frozen=True, slots=True)
class AuditRequest:
    """What was asked for on the command line."""

    kinds: tuple[Audited, ...]
    releases: int | None  # None: as many as see what has to be seen
    seed: int
    one_run: bool
    as_json: bool


def report_audit(request: AuditRequest) -> bool:
    """Audit and print; whether nothing contradicts a claim. Raises `ModelError` without a base."""
    with progress_bars(*Progress.get_default_columns()) as bars:
        found = [_audited(kind, request, bars) for kind in request.kinds]
        bound = _bounded(request, bars) if request.one_run else None
    console = output()
    if request.as_json:
        console.print_json(json.dumps(audit_values(found, bound), allow_nan=False), highlight=False)
    else:
        for audit in found:
            _show(audit, console)
        if bound is not None:
            console.print(_one_run_words(bound), highlight=False, markup=False)
        console.print(_MEANING, highlight=False, markup=False)
    return all(audit.passed for audit in found)


def _audited(kind: Audited, request: AuditRequest, bars: Progress) -> MechanismAudit:
    task = bars.add_task(f"{kind}: releases", total=None)

    def advance(done: int, total: int) -> None:
        bars.update(task, completed=done, total=total)

    return audit_mechanism(kind, request.seed, releases=request.releases, progress=advance)


def _bounded(request: AuditRequest, bars: Progress) -> OneRunAudit:
    bars.add_task("one release of 1,000 canaries", total=None)
    return audit_one_run(request.seed)


def audit_values(found: list[MechanismAudit], bound: OneRunAudit | None) -> dict[str, object]:
    """What `--json` prints."""
    return {
        "passed": all(audit.passed for audit in found),
        "mechanisms": [
            {
                **{key: value for key, value in asdict(audit).items() if key != "checks"},
                "passed": audit.passed,
                "points_broken": audit.curve.broken,
                "checks": [asdict(check) | {"passed": check.passed} for check in audit.checks],
            }
            for audit in found
        ],
        "one_run": None if bound is None else asdict(bound),
    }


def _show(audit: MechanismAudit, console: Console) -> None:
    curve = Table(
        *("accuses of", "wrongly", "rightly", "rightly at least", "allowed", ""),
        title=f"{audit.kind}: what an attacker tells, {audit.curve.present} present and "
        f"{audit.curve.absent} absent in {audit.releases} releases",
    )
    for point in audit.curve.points:
        side = "presence" if point.above else "absence"
        rates = (point.fpr, point.tpr, point.tpr_least, point.allowed)
        verdict = "MORE THAN CLAIMED" if point.broken else "ok"
        curve.add_row(side, *(f"{rate:.3f}" for rate in rates), verdict)
    console.print(curve)
    checks = Table("check", "found", "from", "to", "", title=f"{audit.kind}: direct checks")
    for check in audit.checks:
        figures = (f"{value:.6g}" for value in (check.value, check.low, check.high))
        checks.add_row(check.name, *figures, "ok" if check.passed else "WRONG")
    console.print(checks)
    verdict = (
        "nothing contradicts what is charged"
        if audit.passed
        else "THE CODE DOES NOT DO WHAT IS CHARGED. Train nothing with it, and report this"
    )
    chance = f"{audit.curve.error:g}"
    console.print(
        f"{audit.kind}: {verdict} (a curve raises a false alarm with a chance of {chance} at most; "
        f"{audit.seconds:.0f} s).",
        highlight=False,
        markup=False,
    )


def _one_run_words(audit: OneRunAudit) -> str:
    bound = audit.bound
    low, high = bound.accuracy
    return (
        f"One release of {bound.canaries} canaries shows that epsilon is at least "
        f"{bound.epsilon:.2f} at delta = {bound.delta:g} ({bound.confidence:.0%} confidence), "
        f"where {audit.claimed:.2f} is charged: {bound.right} of {bound.guesses} guesses were "
        f"right ({low:.0%} to {high:.0%}). If every guess had been, it would be "
        f"{bound.ceiling:.2f}. No verdict: such a bound is loose, and a low one is no praise."
    )
