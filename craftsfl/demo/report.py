"""What the demo leaves behind: a table, summary.json, and what to type next."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from craftsfl.demo.figures import DemoReferences, PublicFigure
from craftsfl.demo.learning import Learning
from craftsfl.demo.workspace import BUNDLE, Workspace
from craftsfl.privacy_words import epsilon_text
from craftsfl.rounds.timeline import RoundTiming
from privacy.dpsgd.release import Release, noise_to_clip
from privacy.files import write_public
from privacy.study.manifest import Study
from privacy.study.pooling import pooled_terms
from privacy.study.terms import mechanism_of

ARM_WORDS: Final = {
    "noise-off": "without noise, at its best rate",
    "central": "all patients as one data set, with noise",
    "alone": "one hospital alone, with noise",
}

# Above this, the noise of one step outweighs the gradients of all patients together. DP-SGD may
# average a little of it away over the steps, but nobody should expect better pictures.
LEARNABLE_RATIO = 2.0


@dataclass(frozen=True)
class SiteResult:
    """One row of the table. `epsilon` is what was used of `budget`; None: there was no noise."""

    name: str
    patients: int
    rounds: int
    epsilon: float | None
    budget: float
    masked: bool


@dataclass(frozen=True)
class DemoOutcome:
    """Everything that the report shows."""

    sites: tuple[SiteResult, ...]
    adapter: Path
    samples: Path
    mlflow: str
    seconds: Mapping[str, float]
    parameters: int
    whole_study: float | None = None  # epsilon of all rounds and attempts; None: no noise
    rounds: Sequence[RoundTiming] = ()
    learning: Learning | None = None
    bundle: Path | None = None  # for an auditor; it was verified


def write_summary(folder: Path, outcome: DemoOutcome) -> Path:
    """Write `folder`/summary.json."""
    path = folder / "summary.json"
    content = {
        "sites": [asdict(site) for site in outcome.sites],
        "adapter": str(outcome.adapter),
        "samples": str(outcome.samples),
        "mlflow": outcome.mlflow,
        "epsilon_whole_study": outcome.whole_study,
        "seconds": {name: round(value, 2) for name, value in outcome.seconds.items()},
        "learning": learning_values(outcome.learning) if outcome.learning else None,
        "bundle": None if outcome.bundle is None else str(outcome.bundle),
    }
    text = json.dumps(content, indent=2, allow_nan=False)
    write_public(path, f"{text}\n".encode())
    return path


def learning_values(learning: Learning) -> dict[str, object]:
    """What summary.json holds of it: every figure with its interval."""
    found, live, obedience = learning.compared.references, learning.noise_off, learning.obedience
    return {
        "loss": _figure_values(learning.loss),
        "obedience": None if obedience is None else _figure_values(obedience),
        "recovered": learning.recovered,
        "noise_off_now": None if live is None else _figure_values(live),
        "references": None if found is None else _reference_values(found),
        "not_compared": learning.compared.why_not,
    }


def _reference_values(found: DemoReferences) -> dict[str, object]:
    arms = {
        name: {
            "patients": arm.patients,
            "loss": _figure_values(arm.loss),
            "obedience": _figure_values(arm.obedience),
        }
        for name, arm in found.arms.items()
    }
    return {"command": found.command, "date": found.date, "seed": found.seed, "arms": arms}


def _figure_values(figure: PublicFigure) -> dict[str, object]:
    values: dict[str, object] = {"before": figure.base, "after": figure.after}
    values |= {"change": figure.change, "low": _finite(figure.low), "high": _finite(figure.high)}
    return values | {"patients": figure.patients, "excludes_zero": figure.excludes_zero}


def show_outcome(workspace: Workspace, outcome: DemoOutcome, console: Console) -> None:
    """Print the table, the learning result, where things are and what to type next."""
    console.print(_table(outcome.sites, "steps" if workspace.study.pools_noise else "rounds"))
    console.print(
        "ε used is what each hospital's own ledger has charged per patient, out of the budget that "
        f"it set; what can be claimed is the whole study: ε = {epsilon_text(outcome.whole_study)} "
        f"at δ = {workspace.study.privacy.delta:g}. Updates were [bold]masked[/]: the coordinator "
        "saw the sum over the hospitals, and no hospital's own update."
    )
    _show_learning(workspace, outcome, console)
    places = {
        "Before and after, same prompts and seeds": outcome.samples,
        "The adapter": outcome.adapter,
        "MLflow": outcome.mlflow,
        "For an auditor, verified": outcome.bundle,
        "Everything else": workspace.folder,
    }
    console.print()
    for what, place in places.items():
        if place is not None:
            console.print(f"{what}: {place}", soft_wrap=True, highlight=False, markup=False)
    spent = ", ".join(f"{name} {value:.0f} s" for name, value in outcome.seconds.items())
    console.print(f"Time: {spent}")
    _show_next(workspace, outcome, console)


def _table(sites: Sequence[SiteResult], rounds: str) -> Table:
    table = Table("site", "declared patients", rounds, "ε used", "of budget", "masked")
    for site in sites:
        table.add_row(
            site.name,
            str(site.patients),
            str(site.rounds),
            epsilon_text(site.epsilon),
            epsilon_text(site.budget),
            "yes" if site.masked else "no",
        )
    return table


def _show_learning(workspace: Workspace, outcome: DemoOutcome, console: Console) -> None:
    ratios = _ratios(workspace.study, outcome)
    text = ", ".join(f"{name} {ratio:.2g}" for name, ratio in ratios.items())
    console.print(
        f"\nNoise against the clipped signal, per step ({outcome.parameters} parameters): {text}"
    )
    if min(ratios.values()) > LEARNABLE_RATIO:
        console.print(
            "[bold]No learning expected[/]: with so few patients, the noise that protects them "
            "outweighs what they can teach. The run shows that the system works, nothing more."
        )
    for line in () if outcome.learning is None else learning_lines(outcome.learning):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def learning_lines(learning: Learning) -> list[str]:
    """What was learned, and what the same training teaches in other ways."""
    lines = [f"Held-out denoising loss: {loss_text(learning.loss)}"]
    if learning.obedience is not None:
        lines.append(
            "Obedience to the caption, by an encoder that took no part in training: "
            f"{obedience_text(learning.obedience)}"
        )
    if learning.noise_off is not None:
        lines.append(f"Without noise, trained just now: {loss_text(learning.noise_off)}")
    if learning.compared.references is not None:
        lines += reference_lines(learning.compared.references)
    if learning.compared.why_not:
        lines.append(learning.compared.why_not)
    if learning.recovered is not None:
        lines.append(f"So {learning.recovered:.0%} of what training without noise teaches is kept.")
    return lines


def reference_lines(found: DemoReferences) -> list[str]:
    """The reference arms, one a line."""
    return [
        f"The same training in other ways, measured on {found.date} ({found.command}):",
        *(
            f"  {ARM_WORDS.get(name, name)} ({arm.patients} patients): loss {loss_text(arm.loss)}; "
            f"obedience {obedience_text(arm.obedience)}"
            for name, arm in found.arms.items()
        ),
    ]


def loss_text(figure: PublicFigure) -> str:
    """The change of a loss, as a share of the base's."""
    change, low, high = (value / figure.base for value in (figure.change, figure.low, figure.high))
    return (
        f"{change:+.2%} (95 % interval {low:+.2%} to {high:+.2%}, {figure.patients} other patients)"
    )


def obedience_text(figure: PublicFigure) -> str:
    """A difference of cosines before and after, with the interval of what has changed."""
    return (
        f"{figure.base:+.3f} before, {figure.after:+.3f} after: {figure.change:+.3f} "
        f"(95 % interval {figure.low:+.3f} to {figure.high:+.3f}, {figure.patients} other patients)"
    )


def verdict_of(outcome: DemoOutcome) -> str:
    """What the run has shown, in a sentence or two."""
    whole, learning = epsilon_text(outcome.whole_study), outcome.learning
    if learning is None:
        return f"Every hospital kept its own account: the whole study costs a patient ε = {whole}."
    kept = learning.recovered
    share = "" if kept is None else f": {kept:.0%} of what training without noise teaches"
    obeyed = ""
    if learning.obedience is not None:
        obeyed = f" Obedience to the caption: {obedience_text(learning.obedience)}."
    return (
        f"{_lesson(learning)} The loss on other patients' tiles changed by "
        f"{loss_text(learning.loss)}{share}.{obeyed} The whole study costs each patient at most "
        f"ε = {whole}."
    )


def _lesson(learning: Learning) -> str:
    """What the figures say together, for somebody who does not read them."""
    loss, obedience = learning.loss, learning.obedience
    if not (loss.excludes_zero and loss.change < 0):
        return "Nothing that it has learned could be shown."
    obeys = obedience is not None and obedience.excludes_zero and obedience.change > 0
    follow = ", and its pictures follow their captions better than before" if obeys else ""
    return f"It has learned from patients whom nobody outside their hospital saw{follow}."


def next_command(workspace: Workspace) -> str:
    """The one thing to type next."""
    own = workspace.hospitals[0].settings
    return f".venv/bin/craftsfl site budget {own} --explain"


def _ratios(study: Study, outcome: DemoOutcome) -> dict[str, float]:
    """Noise against the largest signal, in a step: of each site, or of all that pool theirs."""
    if study.pools_noise:
        sites = len(outcome.sites)
        release = Release(
            clipping_norm=study.training.clipping_norm,
            noise_multiplier=pooled_terms(study).noise_share(sites) * math.sqrt(sites),
            denominator=float(sum(site.patients for site in outcome.sites)),
        )
        return {"all together": noise_to_clip(release, outcome.parameters)}
    mechanism = mechanism_of(study)
    return {
        site.name: noise_to_clip(mechanism.constants(site.patients), outcome.parameters)
        for site in outcome.sites
    }


def _show_next(workspace: Workspace, outcome: DemoOutcome, console: Console) -> None:
    consortium = workspace.consortium
    prompt = workspace.study.samples.prompts[0]
    console.print("\n[bold]What to type next[/]")
    for line in (
        f"craftsfl model sample --adapter {outcome.adapter} --out grid.png {json.dumps(prompt)}",
        f"craftsfl rounds status {consortium}",
        f"craftsfl site budget {workspace.hospitals[0].settings} --explain",
        f"craftsfl audit tamper {workspace.folder / BUNDLE}",
        f"mlflow ui --backend-store-uri {outcome.mlflow}",
    ):
        console.print(f"  .venv/bin/{line}", soft_wrap=True, highlight=False, markup=False)


def site_results(result: Mapping[str, object]) -> tuple[SiteResult, ...]:
    """The rows of the coordinator's result.json."""
    rows = result["sites"]
    if not isinstance(rows, list):
        raise TypeError("result.json: sites is not a list")
    return tuple(
        SiteResult(
            name=str(row["name"]),
            patients=int(row["patients"]),
            rounds=int(row["rounds"]),
            epsilon=_finite(row["epsilon"]),
            budget=float(row["budget"]),
            masked=bool(row["masked"]),
        )
        for row in rows
    )


def _finite(value: object) -> float | None:
    if value is None:
        return None
    number = float(str(value))
    return number if math.isfinite(number) else None
