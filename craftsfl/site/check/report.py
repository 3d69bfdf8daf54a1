"""The findings as a person reads them, and as a program does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console
from rich.text import Text

from craftsfl.site.check.catalogue import MEANINGS, anchor_of, level_of
from craftsfl.site.check.finding import Checked, Fact, Finding, Level
from privacy.visible import visible

_MARKS: Final = {Level.FAULT: ("fault", "bold red"), Level.LOOK: ("look", "bold yellow")}


@dataclass(frozen=True, slots=True)
class Report:
    """All that a check has said of the site called `name`."""

    name: str
    checked: tuple[Checked, ...]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The findings, the gravest first, otherwise as they came."""
        found = [item for item in self.checked if isinstance(item, Finding)]
        return tuple(sorted(found, key=lambda finding: -level_of(finding.id)))

    @property
    def facts(self) -> tuple[Fact, ...]:
        """The facts, as they came."""
        return tuple(item for item in self.checked if isinstance(item, Fact))

    @property
    def exit_status(self) -> int:
        """0, 1 or 2: the level of the gravest finding."""
        return max((int(level_of(finding.id)) for finding in self.findings), default=0)


def cure_of(finding: Finding) -> str:
    """What to do about it: its own cure, else the catalogue's."""
    return finding.cure or MEANINGS[finding.id].cure


def finding_lines(findings: Sequence[Finding]) -> Iterator[Text]:
    """Each finding with its cure, as text that cannot act on a terminal."""
    for finding in findings:
        mark, style = _MARKS[level_of(finding.id)]
        head = Text.assemble((f"{mark:<6}", style), (f"{finding.id}  ", "bold"))
        yield head.append(visible(finding.words))
        yield Text.assemble("      ", ("Next: ", "bold"), visible(cure_of(finding)))
        yield Text(f"      {anchor_of(finding.id)}", style="dim")


def show_report(report: Report, console: Console) -> None:
    """Print the facts, then the findings, then how it ends."""
    for fact in report.facts:
        line = Text.assemble(("ok    ", "green"), (f"{fact.name}: ", "bold"), visible(fact.value))
        console.print(line)
    for line in finding_lines(report.findings):
        console.print(line)
    console.print(ending(report), highlight=False)


def ending(report: Report) -> str:
    """The last line."""
    faults = sum(level_of(finding.id) is Level.FAULT for finding in report.findings)
    looks = len(report.findings) - faults
    if not report.findings:
        return f"{report.name}: nothing to do."
    return f"{report.name}: {faults} to mend before it can take part, {looks} to look at."


def report_values(report: Report) -> dict[str, object]:
    """What `--json` prints."""
    return {
        "site": report.name,
        "exit": report.exit_status,
        "findings": [
            {
                "id": str(finding.id),
                "level": level_of(finding.id).name.lower(),
                "words": finding.words,
                "cure": cure_of(finding),
                "docs": anchor_of(finding.id),
            }
            for finding in report.findings
        ],
        "facts": {fact.name: fact.value for fact in report.facts},
    }
