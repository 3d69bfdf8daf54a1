"""Verdicts on the screen."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from craftsfl.audit.readers_words import readers_words
from craftsfl.audit.tampering import KINDS, NotHere, Tampered, tamper
from craftsfl.audit.verdict import AuditVerdict, verify_bundle
from craftsfl.new_file import write_new_file
from craftsfl.privacy_words import epsilon_text
from craftsfl.terminal import output
from privacy.audit.checks.costs import SiteCost
from privacy.errors import AuditError, ConfigError
from privacy.identity import fingerprint
from privacy.visible import visible

MOST_SHOWN: Final = 40  # failures
WHOSE: Final = "Whose it is: compare the roster's fingerprint by phone, and give it as --roster."
_RANDOM_LETTERS: Final = 4


def show_verdict(verdict: AuditVerdict, *, roster_known: bool, as_json: bool = False) -> None:
    """Print it; `roster_known`: whether it was compared with one from elsewhere."""
    console = output()
    if as_json:
        console.print_json(json.dumps(verdict.values(), allow_nan=False), highlight=False)
        return
    if verdict.evidence is not None:
        _about(verdict, console)
    for line in verdict.not_recomputed:
        console.print(f"Not recomputed: {line}", highlight=False, markup=False)
    for line in verdict.notices:
        console.print(f"Note: {line}", highlight=False, markup=False)
    for one in verdict.failures[:MOST_SHOWN]:
        console.print(f"FAILED {one}", highlight=False, markup=False)
    if len(verdict.failures) > MOST_SHOWN:
        console.print(f"... and {len(verdict.failures) - MOST_SHOWN} more.", highlight=False)
    console.print(_conclusion(verdict), highlight=False, markup=False)
    if verdict.passed and not roster_known:
        console.print(WHOSE, highlight=False, markup=False, soft_wrap=True)


def show_tampered(data: bytes, kind: str | None, seed: str | None, out: Path | None) -> None:
    """Break one thing, say what, and print what the verdict says of it."""
    broken = _broken(data, kind, seed or secrets.token_hex(_RANDOM_LETTERS))
    console = output()
    console.print(f"Broken ({broken.kind}): {broken.words}", highlight=False, markup=False)
    if out is not None:
        write_new_file(out, broken.data)
        console.print(f"The broken bundle: {out}", highlight=False, markup=False)
    verdict = verify_bundle(broken.data)
    for one in verdict.failures[:5]:
        console.print(f"Found: {one}", highlight=False, markup=False)
    if verdict.passed:
        raise AuditError(
            "It was not found.", "That is a fault of craftsfl: please report kind and seed."
        )


def _broken(data: bytes, kind: str | None, seed: str) -> Tampered:
    if kind is not None:
        if kind not in KINDS:
            raise ConfigError(f"There is no kind {kind!r}.", f"One of: {', '.join(KINDS)}.")
        return tamper(data, kind, seed)
    found = _possible(data, seed)
    try:
        return next(found)
    except StopIteration:
        raise AuditError("Nothing in it can be broken: it is no bundle.", "Verify it.") from None


def _possible(data: bytes, seed: str) -> Iterator[Tampered]:
    """In an order that follows from the seed, whatever can be done to this bundle without keys."""
    import random

    names = [name for name, one in KINDS.items() if not one.needs_keys]
    random.Random(seed).shuffle(names)
    for name in names:
        try:
            yield tamper(data, name, seed)
        except NotHere:
            continue


def _about(verdict: AuditVerdict, console: Console) -> None:
    evidence = verdict.evidence
    if evidence is None:
        return
    study, index = evidence.study, evidence.index
    pinned = bytes.fromhex(study.secure_aggregation.roster)
    lines = (
        f"Bundle     SHA-256 {verdict.digest}",
        f"Study      {study.name}, digest {visible(index.study, most=64)}",
        f"Consortium {visible(index.consortium, most=100)}; its roster, to be compared by phone: "
        f"{fingerprint(pinned)}",
        f"Checked    {verdict.counts.records} records, {verdict.counts.charges} charges, "
        f"{verdict.counts.sums} sums, {verdict.counts.steps} steps",
        *_promoted(verdict),
    )
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    console.print(_table(verdict.costs))


def _promoted(verdict: AuditVerdict) -> Iterator[str]:
    if verdict.promotions:
        one = verdict.promotions[-1]
        yield (
            f"Champion   version {one.version} of run {one.run}, SHA-256 {one.digest}; "
            f"promotion {len(verdict.promotions)}"
        )
    given = verdict.champion
    if given is not None and given.recomputed:
        yield f"Given      {given.words}"
    for read in verdict.readers:
        yield f"Readers    {readers_words(read)}"


def _table(costs: list[SiteCost]) -> Table:
    table = Table("site", "charges", "ε, recomputed", "claimed", "budget", "ε of all studies", "of")
    for cost in costs:
        table.add_row(
            cost.site,
            str(cost.charges),
            epsilon_text(cost.study),
            epsilon_text(cost.claimed),
            epsilon_text(cost.budget),
            epsilon_text(cost.lifetime),
            epsilon_text(cost.lifetime_budget),
        )
    return table


def _conclusion(verdict: AuditVerdict) -> str:
    if verdict.passed:
        rest = ", but for what was not recomputed" if verdict.not_recomputed else ""
        return f"VERIFIED: everything in the bundle holds{rest}."
    plural = "" if len(verdict.failures) == 1 else "s"
    return f"NOT VERIFIED: {len(verdict.failures)} failure{plural}."
