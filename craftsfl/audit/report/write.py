"""From a bundle to the report's files: one page, and JSON for programs and registries."""

from __future__ import annotations

import json
import math
from collections import Counter
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from craftsfl.audit.readers_words import readers_words
from craftsfl.audit.report.charts import epsilon_svg
from craftsfl.audit.report.figures import ReportFigures, percent_up, report_figures
from craftsfl.audit.report.registry import registry_record
from craftsfl.audit.report.words import CHANNELS, HAZARDS, NEVER_CLAIMED, RARE_TYPES_PAY
from craftsfl.audit.verdict import AuditVerdict, verify_bundle
from craftsfl.new_file import elsewhere
from craftsfl.privacy_words import epsilon_text
from craftsfl.version import installed_version
from privacy.audit.checks.generator import trial_faults
from privacy.audit.checks.log import CHECKPOINT_FILE
from privacy.audit.environment import read_environment
from privacy.audit.evidence import ENVIRONMENT_FILE, Evidence
from privacy.audit.faults import listed_names
from privacy.errors import AuditError, ConfigError, LogError
from privacy.events import Observer
from privacy.files import write_public
from privacy.identity import fingerprint
from privacy.ledger import State
from privacy.ledger.records import GeneratorTried
from privacy.log.checkpoints import TreeHead
from privacy.log.notes import SignedNote
from privacy.study.terms import event_of

REPORT_PAGE: Final = "report.html"
VERDICT: Final = "verdict.json"
REGISTRY: Final = "registry.json"
_OBSERVERS: Final = {
    Observer.SERVER: "the coordinator",
    Observer.SITE: "another site, which knows its own share of the noise",
    Observer.COALITION: "the coordinator with as many sites as may collude",
    Observer.PUBLIC: "whoever gets the adapter",
    Observer.MASKS_BROKEN: "whoever undoes the masks: all other sites, or a later machine",
}


def write_report(data: bytes, folder: Path) -> list[Path]:
    """Write the report on the bundle `data` into `folder`; its files, the page first.

    Raises `AuditError` for a bundle of which nothing can be read, `ConfigError` for the folder.
    """
    verdict = verify_bundle(data)
    evidence = verdict.evidence
    if evidence is None:
        raise AuditError(
            f"The bundle cannot be read: {verdict.failures[0]}", "Ask for another copy of it."
        )
    figures = report_figures(evidence)
    files = {
        REPORT_PAGE: render_report(verdict, evidence, figures),
        VERDICT: json.dumps(verdict.values(), indent=2, allow_nan=False) + "\n",
        REGISTRY: json.dumps(registry_record(verdict, evidence, figures.whole), indent=2) + "\n",
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            write_public(folder / name, text.encode("utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{folder} cannot be written: {error.strerror}.", elsewhere(folder)
        ) from None
    return [folder / name for name in files]


def render_report(verdict: AuditVerdict, evidence: Evidence, figures: ReportFigures) -> str:
    """The page. Whatever comes from the bundle is escaped."""
    environment = Environment(
        loader=PackageLoader("craftsfl.audit.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(epsilon=epsilon_text, percent=percent_up)
    environment.globals.update(epsilon_svg=epsilon_svg)
    study = evidence.study
    pinned = bytes.fromhex(study.secure_aggregation.roster)
    return environment.get_template("report.html").render(
        verdict=verdict,
        readings=[readers_words(one) for one in verdict.readers],
        evidence=evidence,
        study=study,
        hospitals=_hospitals(evidence),
        period=_period(evidence),
        lifetime_delta=max((cost.lifetime_delta for cost in verdict.costs), default=0.0),
        broken=figures.whole.against[Observer.MASKS_BROKEN] if figures.whole else 0.0,
        whole=figures.whole,
        why_not=figures.why,
        curves=figures.curves,
        observers=_OBSERVERS,
        roster=fingerprint(pinned),
        event=event_of(study),
        pooled=study.pools_noise,
        noise_factor=_noise_factor(evidence),
        attempts=_attempts(evidence),
        software=_software(evidence),
        generators=_generators(evidence),
        accountant=_accountant(),
        log_root=_log_root(evidence),
        rare_types=RARE_TYPES_PAY,
        channels=CHANNELS,
        hazards=HAZARDS,
        not_claimed=NEVER_CLAIMED,
        most_delta=min(1e-5, 1 / (10 * max(site.declared_patients for site in study.sites))),
    )


def _noise_factor(evidence: Evidence) -> float:
    """How much larger the opened noise is than one that a trusted centre would add."""
    study = evidence.study
    if not study.pools_noise:
        return math.sqrt(len(study.sites))
    sites = len(study.sites)
    return math.sqrt(sites / (sites - study.privacy.noise_colluders))


def _attempts(evidence: Evidence) -> dict[str, int]:
    """How many attempts of all runs came to what, and how many were charged at most."""
    counts: Counter[str] = Counter()
    for run in evidence.runs.values():
        counts["runs"] += 1
        for one in run.record.attempts:
            counts["opened" if one.opened else "lost"] += 1
        counts["refusals"] += len(run.record.refusals)
    own = evidence.study.digest()
    charged = [
        sum(entry.state is State.COMMITTED and entry.key.study == own for entry in chain.entries)
        for chain in evidence.ledgers.values()
    ]
    names = ("runs", "opened", "lost", "refusals")
    return {**{name: counts[name] for name in names}, "charged": max(charged, default=0)}


def _generators(evidence: Evidence) -> list[str]:
    """What the sites' ledgers say of their newest trials of the generator, in words."""
    passed, found = list[GeneratorTried](), list[str]()
    untried = [name for name, chain in sorted(evidence.ledgers.items()) if chain.tried is None]
    for name, chain in sorted(evidence.ledgers.items()):
        if chain.tried is None:
            continue
        faults = trial_faults(chain.tried[0])
        passed += [] if faults else [chain.tried[0]]
        found += [f"FAILED at {name}: {', '.join(faults)}"] if faults else []
    if passed:
        variances = sorted(one.variance for one in passed)
        units = " and ".join(sorted({f"{one.deviation / 2**16:.4g}" for one in passed}))
        found.append(
            f"passed at {len(passed)} of {len(evidence.ledgers)} sites, variance "
            f"{variances[0]:.4f} to {variances[-1]:.4f} of what it has to be, at {units} grid units"
        )
    return found + ([f"no trial in the ledger of {listed_names(untried)}"] if untried else [])


def _hospitals(evidence: Evidence) -> list[str]:
    """The study's sites, each with the organisation that the newest roster names."""
    organisations = {
        member.name: member.organisation
        for signed in evidence.rosters
        for member in signed.roster.members
    }
    return [f"{organisations.get(s.name, s.name)} ({s.name})" for s in evidence.study.sites]


def _period(evidence: Evidence) -> tuple[str, str] | None:
    """When the first attempt began and the last one ended (UTC), as the coordinator has it."""
    rows = [one for run in evidence.runs.values() for one in run.record.attempts]
    ends = [one.finished for one in rows if one.finished is not None]
    if not ends:
        return None
    both = min(one.started for one in rows), max(ends)
    first, last = (datetime.fromtimestamp(one, UTC).strftime("%Y-%m-%d %H:%M") for one in both)
    return f"{first} UTC", f"{last} UTC"


def _accountant() -> str:
    try:
        version = metadata.version("dp-accounting")
    except metadata.PackageNotFoundError:
        version = "of an unknown version"
    return f"craftsfl {installed_version()} with dp-accounting {version}"


def _log_root(evidence: Evidence) -> str:
    try:
        note = SignedNote.decode(evidence.files[CHECKPOINT_FILE])
        return str(TreeHead.of_text(note.text).root.hex())
    except (KeyError, LogError):
        return ""


def _software(evidence: Evidence) -> dict[str, str]:
    """What the coordinator says of its software; its word."""
    try:
        return read_environment(evidence.files[ENVIRONMENT_FILE])
    except (KeyError, AuditError):
        return {}
