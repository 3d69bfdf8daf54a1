"""The documents: their links lead somewhere, and no decision is left out of the list."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import yaml

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = sorted(
    [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "examples").glob("*.md"),
    ]
)
SECURITY: Final = ROOT / "docs/security.md"
FORMS: Final = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("[!c]*.yml"))
DECISIONS: Final = sorted((ROOT / "docs/adr").glob("[0-9]*.md"))


def links(page: Path) -> Iterator[str]:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text)):
        if not re.match(r"[a-z]+:", link):
            yield link


def anchors(page: Path) -> set[str]:
    """Anchors of headings as GitHub makes them: small letters, hyphens, nothing else."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_tables_have_as_many_cells_in_every_row(page: Path) -> None:
    lines = page.read_text().splitlines()
    for number, line in enumerate(lines):
        if re.fullmatch(r"\|(?:\s*:?-+:?\s*\|)+", line):
            cells = line.count("|")
            for row in [lines[number - 1], *rows_after(lines, number)]:
                assert len(re.findall(r"(?<!\\)\|", row)) == cells, row


def rows_after(lines: list[str], number: int) -> Iterator[str]:
    for line in lines[number + 1 :]:
        if not line.startswith("|"):
            return
        yield line


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.name)
def test_a_decision_has_a_date_and_a_status_and_is_listed(page: Path) -> None:
    top = "\n".join(page.read_text().splitlines()[:6])
    assert re.search(r"Date: \d{4}-\d{2}-\d{2}", top)
    assert "Status: " in top
    assert f"({page.name})" in (ROOT / "docs/adr/README.md").read_text()


def head_of(page: Path) -> str:
    """What stands above a decision's first words: date, status, and the decisions next to it."""
    text = re.sub(r"\([^)]*\.md\)", "", page.read_text().partition("\n")[2])
    return re.split(r"(?m)^(?:\*\*|#)", text)[0].replace("\n", " ")


def numbers_in(words: str) -> set[int]:
    return {int(number) for number in re.findall(r"\d+", words)}


def test_an_amended_decision_names_what_amended_it_and_so_does_the_list() -> None:
    heads = {int(page.name[:4]): head_of(page) for page in DECISIONS}
    amenders: dict[int, set[int]] = {number: set() for number in heads}
    for number, head in heads.items():
        for amended in numbers_in(" ".join(re.findall(r"\bAmends ([^:.]*)", head))):
            amenders[amended].add(number)
    named = {
        n: numbers_in(" ".join(re.findall(r"\b[Bb]y (?:ADR )?\[?\d+", heads[n]))) for n in heads
    }
    table = (ROOT / "docs/adr/README.md").read_text()
    listed = dict.fromkeys(heads, "")
    listed.update(
        {int(n): row for n, row in re.findall(r"(?m)^\| (\d+) .*amended by (.*) \|$", table)}
    )
    assert named == amenders
    assert {number: numbers_in(row) for number, row in listed.items()} == amenders


PACKAGES: Final = ("server", "client", "strategies", "model", "privacy", "craftsfl")


def test_the_code_names_the_decisions_that_explain_it() -> None:
    sources = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    code = "".join(path.read_text() for path in [*sources, ROOT / "pyproject.toml"])
    assert [page.name for page in DECISIONS if f"docs/adr/{page.name}" not in code] == []
    for name in set(re.findall(r"docs/adr/([0-9][\w-]*\.md)", code)):
        assert (ROOT / "docs/adr" / name).exists(), name


def test_the_citation_names_the_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == version


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_an_issue_form_is_complete(form: Path) -> None:
    found = yaml.safe_load(form.read_text())
    assert found["name"]
    assert found["description"]
    assert {"id", "type", "attributes"} <= set(found["body"][-1])


def test_the_tests_that_the_attacks_name_exist() -> None:
    file = ""
    for named in re.findall(r"`(tests/[\w/]+\.py|)((?:::\w+)*)`", SECURITY.read_text()):
        file = named[0] or file
        if any(named):
            source = (ROOT / file).read_text()
            for name in named[1].split("::")[1:]:
                assert re.search(rf"(def|class) {name}\b", source), (file, name)


def test_the_functions_that_the_architecture_names_are_in_their_files() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    named = re.findall(r"`([\w.]+)` in\s+\[[^]]*\]\(\.\./([\w/]+\.py)\)", text)
    assert len(named) > 5
    for name, path in named:
        assert re.search(rf"(def|class) {name.split('.')[-1]}\b", (ROOT / path).read_text()), name


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs/README.md").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "README.md" or f"({page.name})" in index, page.name
