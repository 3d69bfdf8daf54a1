"""What docs/hospital.md tells people to look for is what the programs print."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("client", "craftsfl", "model", "privacy", "server")
# Put together from parts at run time.
COMPOSED = {
    "Refused (CHECK,",
    "site.key.ledger is missing",
    "but this site has one",
    "others can read or change it",
    "others can change it",
    "OLDER_LEDGER",
    "OTHER_LEDGER",
}


def printed() -> str:
    """Every text in the sources, f-strings without what they insert, one a line."""
    texts = [
        node.value
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    return "\n".join(texts)


def quoted() -> list[str]:
    """The fixed parts of all texts under "you see": between dots, commas and semicolons."""
    table = (ROOT / "docs" / "hospital.md").read_text().partition("| you see |")[2]
    rows = table.partition("\n\n")[0].splitlines()[2:]
    texts = [text for row in rows for text in re.findall(r"`([^`]+)`", row.split("|")[1])]
    parts = [part.strip() for text in texts for part in re.split(r"…|;|(?<=missing),", text)]
    return [part for part in parts if len(part) > 3 and part not in COMPOSED]


def test_what_hospitals_are_told_to_look_for_is_what_they_see() -> None:
    sources, parts = printed(), quoted()
    assert len(parts) > 25
    assert [part for part in parts if part not in sources] == []
